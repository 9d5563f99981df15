//! Certificates: a CA of our own, and short-lived ones of servers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{AccessError, SERVER_NAME};

/// How long a server's certificate is valid.
const VALID: Duration = Duration::from_secs(90 * 86_400);
/// How far a client's clock may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2 * 86_400);

/// The certificate of a new CA and its key, in PEM.
pub(crate) fn new_ca() -> Result<(String, String), AccessError> {
    let key = KeyPair::generate().map_err(AccessError::certificate)?;
    let ca = ca_params().self_signed(&key).map_err(AccessError::certificate)?;
    Ok((ca.pem(), key.serialize_pem()))
}

/// The same for every CA, so that a key alone makes an issuer. It is trusted for as long as its file is there, so that it has no end.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Sortie CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
    params
}

fn name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A new certificate for a server, signed by the CA whose key this is, and its own key.
pub(crate) fn new_server(
    ca_key: &str,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AccessError> {
    let ca_key = KeyPair::from_pem(ca_key).map_err(AccessError::certificate)?;
    let issuer = Issuer::new(ca_params(), ca_key);
    let mut params =
        CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(AccessError::certificate)?;
    params.distinguished_name = name(SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = ((now - CLOCKS_DIFFER).into(), (now + VALID).into());
    let key = KeyPair::generate().map_err(AccessError::certificate)?;
    let certificate = params.signed_by(&key, &issuer).map_err(AccessError::certificate)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(AccessError::certificate)?;
    Ok((certificate.der().clone(), key))
}

/// Reads a certificate.
pub(crate) fn read(pem: &str) -> Result<CertificateDer<'static>, AccessError> {
    let bytes = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(AccessError::certificate)?;
    // A certificate that cannot prove anything is refused where it is read, not where it is used.
    rustls::RootCertStore::empty().add(bytes.clone()).map_err(AccessError::certificate)?;
    Ok(bytes)
}

/// The one cryptography of all our programs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
