//! A URL answers as expected.

use std::io::{ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig};

use super::{Detected, bounded, contains};

/// Most bytes of a body that are looked at.
const BODY_LIMIT: usize = 1 << 20;

/// How much longer than its limit a try may take before its thread is given up on; the client ends in
/// time by itself and names the cause.
const GRACE: Duration = Duration::from_millis(50);

/// What is checked about the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: a check asks whether the application answers, not whom it belongs to.
    Nothing,
    /// That an authority in this PEM file vouches for the name in the URL.
    Roots(PathBuf),
}

/// Requests a URL with GET. Redirects are not followed: 3xx is an answer like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlCheck {
    /// `http://` or `https://`.
    pub url: String,
    /// About the certificate.
    pub verify: Verify,
    /// Status codes that count as running.
    pub status: RangeInclusive<u16>,
    /// Text that must occur in the first MiB of the body, encoded as UTF-8 or GBK.
    pub contains: Option<String>,
    /// How often it is tried before it counts as failed, at least once.
    pub tries: u32,
    /// Limit for each try, from name resolution to the last byte.
    pub timeout: Duration,
}

impl UrlCheck {
    /// A check with the defaults: any certificate, status 200 to 399, 3 tries of 3000 ms.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            verify: Verify::Nothing,
            status: 200..=399,
            contains: None,
            tries: 3,
            timeout: Duration::from_millis(3000),
        }
    }

    /// Does the check; takes at most `tries` times `timeout`. The result is that of the last try.
    pub fn check(&self) -> Detected {
        let mut result = self.once();
        for _ in 1..self.tries {
            if result == Detected::Running {
                break;
            }
            result = self.once();
        }
        result
    }

    fn once(&self) -> Detected {
        let check = self.clone();
        // The client keeps the limit itself; the thread is for what no client can bound, such as a
        // hung disk under the PEM file.
        bounded(self.timeout + GRACE, move || {
            check
                .request()
                .unwrap_or_else(|error| check.explain(&error))
        })
    }

    fn request(&self) -> Result<Detected, ureq::Error> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent("hotpair")
            .tls_config(self.tls()?)
            .build()
            .new_agent();
        let mut response = agent.get(&self.url).header("connection", "close").call()?;
        let status = response.status().as_u16();
        if !self.status.contains(&status) {
            let (first, last) = (self.status.start(), self.status.end());
            return Ok(Detected::Failed(format!(
                "{} answered with status {status}, expected {first} to {last}",
                self.url
            )));
        }
        let Some(text) = self.contains.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(Detected::Running);
        };
        if body_contains(response.body_mut().as_reader(), &needles(text))? {
            return Ok(Detected::Running);
        }
        Ok(Detected::Failed(format!(
            "{} answered with status {status}, but without `{text}`",
            self.url
        )))
    }

    fn tls(&self) -> Result<TlsConfig, ureq::Error> {
        let mut roots = Vec::new();
        if let Verify::Roots(path) = &self.verify {
            let pem = std::fs::read(path).map_err(|error| {
                std::io::Error::other(format!("cannot read {}: {error}", path.display()))
            })?;
            for item in ureq::tls::parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item? {
                    roots.push(certificate);
                }
            }
        }
        Ok(TlsConfig::builder()
            .disable_verification(self.verify == Verify::Nothing)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }

    fn explain(&self, error: &ureq::Error) -> Detected {
        match error {
            ureq::Error::Timeout(_) => Detected::Failed(format!(
                "{} did not answer within {} ms",
                self.url,
                self.timeout.as_millis()
            )),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Detected::NotRunning(format!("nothing listens for {}", self.url))
            }
            error => Detected::Failed(format!("{} failed: {error}", self.url)),
        }
    }
}

fn needles(text: &str) -> Vec<Vec<u8>> {
    let (gbk, _, unmappable) = encoding_rs::GBK.encode(text);
    let mut all = vec![text.as_bytes().to_vec()];
    if !unmappable && gbk != text.as_bytes() {
        all.push(gbk.into_owned());
    }
    all
}

fn body_contains(mut body: impl Read, needles: &[Vec<u8>]) -> std::io::Result<bool> {
    let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
    let mut seen = Vec::new();
    let mut buffer = [0; 16 << 10];
    while seen.len() < BODY_LIMIT {
        let count = body.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let from = seen.len().saturating_sub(longest);
        seen.extend_from_slice(&buffer[..count]);
        if needles.iter().any(|needle| contains(&seen[from..], needle)) {
            return Ok(true);
        }
    }
    Ok(false)
}
