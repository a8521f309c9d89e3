//! Trust in providers' Flight sockets.

use std::path::PathBuf;

use tonic::transport::{Certificate, ClientTlsConfig};

use crate::context::{Globals, read_file};
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
        roots.push(Certificate::from_pem(read_file(&system, MAX_ROOTS_BYTES)?));
    }
    roots.extend(extra_roots(globals)?.map(Certificate::from_pem));
    if roots.is_empty() {
        return Err(Failure::failed(format_args!("no trusted roots: `{}` does not exist", system.display()))
            .hint("install ca-certificates, or set SSL_CERT_FILE"));
    }
    Ok(ClientTlsConfig::new().ca_certificates(roots))
}

/// The roots, in PEM, that the node's configuration adds to the system's.
pub fn extra_roots(globals: &Globals) -> Outcome<Option<Vec<u8>>> {
    let Some(dir) = &globals.dir else { return Ok(None) };
    match node_dir::read(dir)?.config.tls.and_then(|tls| tls.extra_roots) {
        Some(file) => read_file(&dir.join(file), MAX_ROOTS_BYTES).map(Some),
        None => Ok(None),
    }
}
