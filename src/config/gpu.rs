//! `executor.gpus`, which is docker's own form, and `executor.gpu`, a vendor with devices.
//!
//! Both are read: configuration files of other agents of the same Server have `gpu.vendor` and `gpu.devices`, and docker
//! has no `--gpus` for cards of AMD.

use super::csv;
use super::problem::Findings;
use super::reader::Section;

/// The graphics cards of a container, as options of `docker run`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gpus {
    /// The value of `--gpus`.
    pub gpus: Option<String>,
    /// The values of `--device`.
    pub devices: Vec<String>,
}

/// A key of `[executor.gpu]` that can't be used, and why.
type Wrong = (&'static str, &'static str);

const VENDOR: Wrong =
    ("vendor", "must be \"nvidia\" or \"amd\"; write other vendors' options into `executor.docker_args`");
const NVIDIA: Wrong = ("devices", "must be \"all\" or the numbers or ids of devices");
const AMD: Wrong = ("devices", "must be \"all\" or paths such as \"/dev/dri/renderD128\"");

pub(super) fn read_gpus(section: &mut Section<'_>, findings: &mut Findings) -> Gpus {
    let requested = section.words("gpus").map(|words| words.join(","));
    if !section.has("gpu") {
        let gpus = requested.as_deref().and_then(request);
        if requested.is_some() && gpus.is_none() {
            section.refuse("gpus", "must be docker's word, such as \"all\", \"2\" or \"device=0,1\"");
        }
        return Gpus { gpus, devices: Vec::new() };
    }
    if requested.is_some() {
        section.refuse("gpus", "stands beside `executor.gpu`; leave one of them out");
    }
    // `gpu = "nvidia"` is short for all cards of a vendor.
    if let Some(vendor) = section.as_text("gpu") {
        return from_vendor(&vendor, &[]).map_err(|(_, wrong)| section.refuse("gpu", wrong)).unwrap_or_default();
    }
    let mut gpu = section.section("gpu");
    let vendor = gpu.required_text("vendor", "write \"nvidia\" or \"amd\"");
    let devices = gpu.words("devices").unwrap_or_default();
    let gpus =
        vendor.and_then(|vendor| from_vendor(&vendor, &devices).map_err(|(key, wrong)| gpu.refuse(key, wrong)).ok());
    gpu.finish(findings);
    gpus.unwrap_or_default()
}

/// The options for a vendor's devices. Without a device, all of them.
fn from_vendor(vendor: &str, devices: &[String]) -> Result<Gpus, Wrong> {
    let devices: Vec<&str> = devices.iter().flat_map(|word| word.split(',')).map(str::trim).collect();
    let is_all = devices.is_empty() || devices == ["all"];
    let are = |allowed: &[u8]| {
        let is_one = |device: &&str| {
            !device.is_empty() && device.bytes().all(|byte| byte.is_ascii_alphanumeric() || allowed.contains(&byte))
        };
        devices.iter().all(is_one) && !devices.contains(&"all")
    };
    let nvidia = |gpus: String| Ok(Gpus { gpus: Some(gpus), devices: Vec::new() });
    let amd = |devices: &[&str]| Ok(Gpus { gpus: None, devices: devices.iter().map(ToString::to_string).collect() });
    match vendor.to_ascii_lowercase().as_str() {
        "nvidia" if is_all => nvidia("all".to_owned()),
        "nvidia" if are(b"-:/._") => nvidia(csv::line([format!("device={}", devices.join(",")).as_str()])),
        "nvidia" => Err(NVIDIA),
        "amd" if is_all => amd(&["/dev/kfd", "/dev/dri"]),
        "amd" if are(b"-/._") && devices.iter().all(|device| device.starts_with("/dev/")) => {
            // The driver is one device for all cards, beside the devices of each card.
            let cards = devices.into_iter().filter(|device| *device != "/dev/kfd");
            amd(&["/dev/kfd"].into_iter().chain(cards).collect::<Vec<_>>())
        }
        "amd" => Err(AMD),
        _ => Err(VENDOR),
    }
}

/// A value that docker takes for `--gpus`: `all`, a number, or CSV of `key=value`. A list of devices is one field for
/// docker; the quotes that make it one are added where they are missing.
fn request(written: &str) -> Option<String> {
    let list = written.strip_prefix("device=").filter(|list| !list.contains(['=', '"']));
    let value = if list.is_some() { csv::line([written]) } else { written.to_owned() };
    let is_known = |field: &String| match field.split_once('=') {
        Some((key, value)) => {
            ["driver", "count", "device", "capabilities", "options"].contains(&key) && !value.is_empty()
        }
        None => field == "all" || field.parse::<u32>().is_ok_and(|count| count > 0),
    };
    let is_request = csv::fields(&value)?.iter().all(is_known) && !value.contains(char::is_control);
    is_request.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{AMD, Gpus, NVIDIA, VENDOR, from_vendor, request};

    #[test]
    fn gpu_requests_are_quoted_as_docker_expects() {
        for (written, word) in [
            ("all", "all"),
            ("2", "2"),
            ("device=0", "device=0"),
            ("device=0,1", "\"device=0,1\""),
            ("\"device=0,1\"", "\"device=0,1\""),
            ("\"device=GPU-1,GPU-2\",capabilities=utility", "\"device=GPU-1,GPU-2\",capabilities=utility"),
            ("device=0,capabilities=utility", "device=0,capabilities=utility"),
        ] {
            assert_eq!(request(written).as_deref(), Some(word), "{written}");
        }
        for wrong in ["", "0", "none", "-1", "device=", "\"device=0", "devices=0", "all,", "--rm", "device=0\n"] {
            assert_eq!(request(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn vendor_and_devices_become_docker_options() {
        let gpus = |vendor: &str, devices: &[&str]| {
            let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
            from_vendor(vendor, &devices).map(|Gpus { gpus, devices }| (gpus.unwrap_or_default(), devices.join(" ")))
        };
        let nvidia = |word: &str| Ok((word.to_owned(), String::new()));
        let amd = |paths: &str| Ok((String::new(), paths.to_owned()));
        assert_eq!(gpus("nvidia", &[]), nvidia("all"));
        assert_eq!(gpus("NVIDIA", &["all"]), nvidia("all"));
        assert_eq!(gpus("nvidia", &["1"]), nvidia("device=1"));
        assert_eq!(gpus("nvidia", &["0,1"]), nvidia("\"device=0,1\""));
        assert_eq!(gpus("nvidia", &["GPU-8e3f", "MIG-1/2"]), nvidia("\"device=GPU-8e3f,MIG-1/2\""));
        assert_eq!(gpus("amd", &[]), amd("/dev/kfd /dev/dri"));
        assert_eq!(gpus("amd", &["/dev/kfd", "/dev/dri/renderD128"]), amd("/dev/kfd /dev/dri/renderD128"));
        for wrong in [&["0", "all"][..], &[""], &["a b"], &["\""], &["0=1"]] {
            assert_eq!(gpus("nvidia", wrong), Err(NVIDIA), "{wrong:?}");
        }
        for wrong in [&["0"][..], &["/etc/passwd"], &["/dev/dri:/x"]] {
            assert_eq!(gpus("amd", wrong), Err(AMD), "{wrong:?}");
        }
        assert_eq!(gpus("voodoo", &[]), Err(VENDOR));
    }
}
