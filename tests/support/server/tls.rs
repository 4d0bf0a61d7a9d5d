//! A private certificate authority and a server certificate signed by it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// The certificates of an https server. Dropping the value removes the folder with the authority's certificate.
pub struct Tls {
    pub config: Arc<ServerConfig>,
    folder: TempDir,
}

impl Tls {
    /// Makes a fresh authority and a certificate for `127.0.0.1` and `localhost`.
    pub fn new() -> Self {
        let authority_key = KeyPair::generate().expect("generate the authority's key");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "agent-core test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = authority.self_signed(&authority_key).expect("sign the authority's certificate");

        let key = KeyPair::generate().expect("generate the server's key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names)
            .expect("name the server")
            .signed_by(&key, &authority, &authority_key)
            .expect("sign the server's certificate");

        let folder = TempDir::with_prefix("fake-server-ca-").expect("make a folder for the CA");
        fs::write(folder.path().join("ca.pem"), pem(authority.der())).expect("write the CA's certificate");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("choose the TLS versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("use the server's certificate");
        Self { config: Arc::new(config), folder }
    }

    /// The authority's certificate, for the client's `SSL_CERT_FILE`.
    pub fn ca_pem(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
