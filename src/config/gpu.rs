//! `executor.gpus`, which is docker's own word, and `executor.gpu`, a vendor with devices, as other agents of this
//! Server are told.

use super::reader::{Findings, Located, Section, TextOrSection};
use crate::config::csv;

/// What a container gets of the machine's graphics cards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gpus {
    /// docker's `--gpus`.
    pub gpus: Option<String>,
    /// docker's `--device`, each.
    pub devices: Vec<String>,
}

pub(super) fn read_gpus(section: &mut Section<'_>, findings: &mut Findings) -> Gpus {
    let gpus = section.words("gpus");
    let Some(written) = section.text_or_section("gpu") else {
        let gpus = gpus.and_then(|gpus| match request(&gpus.value.join(",")) {
            Some(request) => Some(request),
            None => {
                let wrong = "must be docker's word, such as \"all\", \"2\" or \"device=0,1\"";
                section.refuse("gpus", gpus.span, wrong);
                None
            }
        });
        return Gpus { gpus, devices: Vec::new() };
    };
    if let Some(gpus) = gpus {
        section.refuse("gpus", gpus.span, "stands beside `executor.gpu`; leave one of them out");
    }
    match written {
        TextOrSection::Text(vendor) => of_vendor(&vendor.value, &[]).unwrap_or_else(|wrong| {
            section.refuse("gpu", vendor.span, wrong.message());
            Gpus::default()
        }),
        TextOrSection::Section(mut gpu) => {
            let read = read_gpu(&mut gpu);
            gpu.finish(findings);
            read
        }
    }
}

fn read_gpu(gpu: &mut Section<'_>) -> Gpus {
    let vendor = gpu.string("vendor");
    let devices = gpu.words("devices");
    let Some(vendor) = vendor else {
        if !gpu.has_problems() {
            gpu.miss("vendor", "write \"nvidia\" or \"amd\"");
        }
        return Gpus::default();
    };
    let Located { value: devices, span } = devices.unwrap_or(Located { value: Vec::new(), span: 0..0 });
    of_vendor(&vendor.value, &devices).unwrap_or_else(|wrong| {
        match wrong {
            Wrong::Vendor => gpu.refuse("vendor", vendor.span, wrong.message()),
            Wrong::Nvidia | Wrong::Amd => gpu.refuse("devices", span, wrong.message()),
        }
        Gpus::default()
    })
}

/// What of `executor.gpu` can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Vendor,
    Nvidia,
    Amd,
}

impl Wrong {
    fn message(self) -> &'static str {
        match self {
            Self::Vendor => "must be \"nvidia\" or \"amd\"; write other vendors' options into `executor.docker_args`",
            Self::Nvidia => "must be \"all\" or the numbers or ids of devices",
            Self::Amd => "must be \"all\" or paths such as \"/dev/dri/renderD128\"",
        }
    }
}

/// What the devices of a vendor are called for docker. None at all means all of them.
fn of_vendor(vendor: &str, devices: &[String]) -> Result<Gpus, Wrong> {
    let devices: Vec<&str> = devices.iter().flat_map(|word| word.split(',')).map(str::trim).collect();
    let is_all = devices.is_empty() || devices == ["all"];
    let are = |allowed: &[u8]| {
        let is_one = |device: &&str| {
            !device.is_empty() && device.bytes().all(|byte| byte.is_ascii_alphanumeric() || allowed.contains(&byte))
        };
        devices.iter().all(is_one) && !devices.contains(&"all")
    };
    match vendor.to_ascii_lowercase().as_str() {
        "nvidia" if is_all => Ok(Gpus { gpus: Some("all".to_owned()), devices: Vec::new() }),
        "nvidia" if are(b"-:/._") => {
            let field = format!("device={}", devices.join(","));
            Ok(Gpus { gpus: Some(csv::line([field.as_str()])), devices: Vec::new() })
        }
        "nvidia" => Err(Wrong::Nvidia),
        // Its driver is one device for all, beside those of each card.
        "amd" if is_all => Ok(Gpus { gpus: None, devices: ["/dev/kfd", "/dev/dri"].map(str::to_owned).to_vec() }),
        "amd" if are(b"-/._") && devices.iter().all(|device| device.starts_with("/dev/")) => {
            let others = devices.iter().filter(|device| **device != "/dev/kfd").map(|device| (*device).to_owned());
            Ok(Gpus { gpus: None, devices: ["/dev/kfd".to_owned()].into_iter().chain(others).collect() })
        }
        "amd" => Err(Wrong::Amd),
        _ => Err(Wrong::Vendor),
    }
}

/// What docker takes for `--gpus`: `all`, a number, or CSV of `key=value`. A list of devices is one field for docker;
/// where it was written without the quotes that make it one, they are added.
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
    use super::{Gpus, Wrong, of_vendor, request};

    #[test]
    fn dockers_own_words() {
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
    fn the_devices_of_a_vendor() {
        let gpus = |vendor: &str, devices: &[&str]| {
            let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
            of_vendor(vendor, &devices).map(|Gpus { gpus, devices }| (gpus.unwrap_or_default(), devices.join(" ")))
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
            assert_eq!(gpus("nvidia", wrong), Err(Wrong::Nvidia), "{wrong:?}");
        }
        for wrong in [&["0"][..], &["/etc/passwd"], &["/dev/dri:/x"]] {
            assert_eq!(gpus("amd", wrong), Err(Wrong::Amd), "{wrong:?}");
        }
        assert_eq!(gpus("voodoo", &[]), Err(Wrong::Vendor));
    }
}
