//! The authorities that may sign the certificate of an https Server: those of this system, and in addition those that
//! SSL_CERT_FILE and SSL_CERT_DIR name.
//!
//! The TLS library's own reading of these variables takes them in place of the system's, and has no words for a file that
//! holds none. On Windows and on Apple's systems the system's own verifier decides, which knows no such variables.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use super::proxy::supported_proxy;
use crate::config::ServerConfig;
use crate::os::timeout::{timeout_message, with_timeout};

/// Where systems keep all authorities in one file. The first one that is there counts.
const BUNDLES: [&str; 9] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/openssl/certs/ca-certificates.crt",
];
/// Where they keep one file for each, for a system without a bundle.
const FOLDERS: [&str; 4] = ["/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/local/share/certs", "/etc/openssl/certs"];
/// The longest file that is read. The bundles of systems have less than 1 MiB.
const LONGEST: u64 = 16 << 20;

/// What is trusted, and what is wrong with the places that name it.
#[derive(Debug, Clone)]
pub struct Authorities {
    pub(super) roots: RootCerts,
    /// What can't be used, with the remedy.
    pub problems: Vec<String>,
}

/// The places to look at.
struct Places {
    bundles: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    file: Option<PathBuf>,
    /// What names the file.
    file_source: &'static str,
    dirs: Vec<PathBuf>,
}

impl Authorities {
    /// Reads what calls to this Server need: nothing where neither the Server nor its proxy has a certificate.
    pub fn load(server: &ServerConfig) -> Self {
        if cfg!(any(windows, target_vendor = "apple")) {
            return Self { roots: RootCerts::PlatformVerifier, problems: Vec::new() };
        }
        let is_https = |address: &str| address.starts_with("https:");
        let by_proxy = supported_proxy(server).is_some_and(|proxy| is_https(&proxy.uri().to_string()));
        if !is_https(&server.base_url) && !by_proxy {
            return Self::of(Vec::new(), Vec::new());
        }
        let places = Places {
            bundles: BUNDLES.map(PathBuf::from).to_vec(),
            folders: FOLDERS.map(PathBuf::from).to_vec(),
            file: server.environment.ssl_cert_file.clone(),
            file_source: server.environment.cert_file_source(),
            dirs: server.environment.ssl_cert_dirs.clone(),
        };
        let late = || Self::of(Vec::new(), vec![format!("reading the certificate authorities {}", timeout_message())]);
        with_timeout(move || places.read()).unwrap_or_else(late)
    }

    fn of(certificates: Vec<Certificate<'static>>, problems: Vec<String>) -> Self {
        Self { roots: RootCerts::Specific(Arc::new(certificates)), problems }
    }

    /// The problems in one text, as the reason why a certificate isn't trusted.
    pub(super) fn problem(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }
}

impl Places {
    fn read(&self) -> Authorities {
        let (mut found, mut problems) = (self.of_system(), Vec::new());
        if let Some(file) = &self.file {
            match read_file(file) {
                Ok(more) => found.extend(more),
                Err(why) => problems.push(format!(
                    "{source} names `{}`, which {why}; correct that, or unset {source}",
                    file.display(),
                    source = self.file_source
                )),
            }
        }
        for dir in &self.dirs {
            match read_folder(dir) {
                Ok(more) if !more.is_empty() => found.extend(more),
                Ok(_) => problems.push(format!(
                    "SSL_CERT_DIR names `{}`, which has no file with a certificate in PEM form; put one there, or unset \
                     SSL_CERT_DIR",
                    dir.display()
                )),
                Err(error) => problems.push(format!(
                    "SSL_CERT_DIR names `{}`, which {}; correct that, or unset SSL_CERT_DIR",
                    dir.display(),
                    unreadable(&error)
                )),
            }
        }
        if found.is_empty() {
            problems.push(
                "this machine has no certificate authorities: install the package `ca-certificates`, or name a file with \
                 them in SSL_CERT_FILE"
                    .to_owned(),
            );
        }
        Authorities::of(found, problems)
    }

    /// The system's own authorities.
    fn of_system(&self) -> Vec<Certificate<'static>> {
        let bundle = self.bundles.iter().find_map(|bundle| read_file(bundle).ok());
        let of_folders = || self.folders.iter().filter_map(|folder| read_folder(folder).ok()).flatten().collect();
        bundle.unwrap_or_else(of_folders)
    }
}

/// The certificates of a file.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
fn read_file(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let metadata = fs::metadata(file).map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err("is a folder, which belongs into SSL_CERT_DIR".to_owned());
    }
    if !metadata.is_file() {
        return Err("isn't a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(&error))?;
    match parse(&bytes) {
        Some(found) => Ok(found),
        None if bytes.is_empty() => Err("is empty".to_owned()),
        // A SEQUENCE of 128 bytes or more (X.690, 8.9), as every certificate in DER form is.
        None if matches!(bytes[..], [0x30, 0x81..=0x84, ..]) => Err(format!(
            "is in DER form: convert it with `openssl x509 -inform der -in {0} -out {0}.pem` and name that file",
            file.display()
        )),
        None => Err("holds no certificate in PEM form that can be used".to_owned()),
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "isn't there".to_owned(),
        _ => format!("can't be read ({error})"),
    }
}

/// The certificates of all files in a folder. Other files don't matter.
fn read_folder(folder: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    // Most are linked under two names.
    files.sort_by_cached_key(|file| fs::canonicalize(file).ok());
    files.dedup_by_key(|file| fs::canonicalize(file).ok());
    Ok(files.iter().filter_map(|file| read_file(file).ok()).flatten().collect())
}

/// The certificates in a text in PEM form (RFC 7468) that the TLS library can use, or `None` where there are none.
fn parse(bytes: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let certificates = parse_pem(bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let is_usable = |certificate: &Certificate<'_>| RootCertStore::empty().add(certificate.der().into()).is_ok();
    let usable: Vec<_> = certificates.filter(is_usable).collect();
    (!usable.is_empty()).then_some(usable)
}

#[cfg(all(test, unix))]
mod tests {
    use super::Places;
    use base64::prelude::{BASE64_STANDARD, Engine};
    use std::fs;
    use std::path::PathBuf;
    use ureq::tls::RootCerts;

    fn authority() -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate")
    }

    fn pem(certificate: &rcgen::Certificate) -> String {
        let text = BASE64_STANDARD.encode(certificate.der());
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    fn read(bundles: &[PathBuf], folders: &[PathBuf], file: Option<PathBuf>, dirs: &[PathBuf]) -> (usize, String) {
        let read = Places {
            bundles: bundles.to_vec(),
            folders: folders.to_vec(),
            file,
            file_source: "SSL_CERT_FILE",
            dirs: dirs.to_vec(),
        }
        .read();
        let RootCerts::Specific(found) = &read.roots else { panic!("{:?}", read.roots) };
        (found.len(), read.problem().unwrap_or_default())
    }

    #[test]
    fn named_authorities_are_added_to_those_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let pem = || pem(&authority());
        fs::write(path("bundle"), pem() + &pem()).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("folder/one.pem"), pem()).unwrap();
        std::os::unix::fs::symlink("one.pem", path("folder/0123abcd.0")).unwrap();
        fs::write(path("folder/README"), "not a certificate").unwrap();
        fs::write(path("own"), pem()).unwrap();
        let system = [path("missing"), path("bundle")];
        assert_eq!(read(&system, &[path("folder")], None, &[]), (2, String::new()));
        assert_eq!(read(&system, &[], Some(path("own")), &[path("folder")]), (4, String::new()));
        // A system without a bundle.
        assert_eq!(read(&system[..1], &[path("folder")], None, &[]), (1, String::new()));
        let none = read(&[], &[], None, &[]);
        assert!(none.0 == 0 && none.1.contains("install the package `ca-certificates`"), "{none:?}");
    }

    #[test]
    fn places_that_hold_no_authority_are_named_and_the_systems_count_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("bundle"), pem(&authority())).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for (name, content) in [
            ("empty", &b""[..]),
            ("der", authority().der()),
            ("text", b"hello"),
            ("broken", b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        let of_file = |name: &str| read(&[path("bundle")], &[], Some(path(name)), &[]);
        for (name, why) in [
            ("missing", "isn't there; correct"),
            ("missing/below", "isn't there; correct"),
            ("empty", "is empty; correct"),
            ("der", "is in DER form: convert it with `openssl x509 -inform der"),
            ("text", "holds no certificate in PEM form"),
            ("broken", "holds no certificate in PEM form that can be used"),
            ("folder", "is a folder, which belongs into SSL_CERT_DIR"),
        ] {
            let (count, problem) = of_file(name);
            let named = format!("SSL_CERT_FILE names `{}`, which {why}", path(name).display());
            assert!(count == 1 && problem.starts_with(&named), "{name}: {problem}");
        }
        for (name, why) in [("missing", "isn't there"), ("text", "can't be read"), ("folder", "has no file with a")] {
            let (count, problem) = read(&[path("bundle")], &[], None, &[path(name)]);
            let named = format!("SSL_CERT_DIR names `{}`, which {why}", path(name).display());
            assert!(count == 1 && problem.starts_with(&named), "{name}: {problem}");
        }
    }
}
