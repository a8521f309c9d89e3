//! Trust in providers' Flight sockets.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig};

use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::node_dir;

/// Where Debian and most others keep the roots the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Largest file of roots; Debian's is about 220 KB.
const MAX_ROOTS_BYTES: u64 = 4 << 20;

/// Trusts the system's roots (`SSL_CERT_FILE` names others) and those that the node's configuration adds.
pub fn client(globals: &Globals) -> Outcome<ClientTlsConfig> {
    let system = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(SYSTEM_ROOTS), PathBuf::from);
    let mut roots = Vec::new();
    if system.exists() {
        roots.push(read(&system)?);
    }
    if let Some(dir) = &globals.dir {
        let config = node_dir::read(dir)?.config;
        if let Some(extra) = config.tls.and_then(|tls| tls.extra_roots) {
            roots.push(read(&dir.join(extra))?);
        }
    }
    if roots.is_empty() {
        return Err(Failure::failed(format_args!("no trusted roots: `{}` does not exist", system.display()))
            .hint("install ca-certificates, or set SSL_CERT_FILE"));
    }
    Ok(ClientTlsConfig::new().ca_certificates(roots))
}

fn read(path: &Path) -> Outcome<Certificate> {
    crate::context::read_file(path, MAX_ROOTS_BYTES).map(Certificate::from_pem)
}
