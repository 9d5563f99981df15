//! Which stores a machine may use that somebody else names: its keys to a service go wherever the URL leads.

use std::str::FromStr;

use url::Url;

use crate::store::{ArtifactError, url_of};

/// What a person writes.
const FORM: &str = "s3, or a place such as s3://BUCKET/PREFIX";
/// Schemes of services. The second is another word for the first.
const S3: [&str; 2] = ["s3", "s3a"];

/// Stores of one kind, or those below one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedStore {
    /// All of S3.
    S3,
    /// A bucket and the parts of a prefix in it.
    Place(Vec<String>),
}

impl AllowedStore {
    /// Whether a machine that allows these may use the store at a URL. Folders are always allowed: they need no key.
    ///
    /// # Errors
    /// [`ArtifactError::Url`] for what is no URL of a store.
    pub fn permit(allowed: &[Self], url: &str) -> Result<bool, ArtifactError> {
        let parts = parts(&url_of(url)?);
        Ok(parts.is_none_or(|parts| allowed.iter().any(|allowed| allowed.holds(&parts))))
    }

    fn holds(&self, parts: &[String]) -> bool {
        match self {
            Self::S3 => true,
            Self::Place(place) => parts.starts_with(place),
        }
    }
}

impl FromStr for AllowedStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if S3.contains(&text) {
            return Ok(Self::S3);
        }
        let place =
            text.contains("://").then(|| url_of(text)).transpose().map_err(|error| error.to_string())?;
        place.and_then(|url| parts(&url)).map(Self::Place).ok_or_else(|| {
            format!(
                "is no kind and no place of artifact stores; allowed: {FORM}. Folders are allowed in any case"
            )
        })
    }
}

/// The bucket and the parts of the prefix; none for what is not S3. `.` and `..` are resolved, as they are when the store is opened.
fn parts(url: &str) -> Option<Vec<String>> {
    let url = Url::parse(url).ok().filter(|url| S3.contains(&url.scheme()))?;
    let bucket = url.host_str()?;
    let prefix = url.path().split('/').filter(|part| !part.is_empty());
    Some([bucket].into_iter().chain(prefix).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_allowed_by_its_kind_or_by_whole_parts_of_its_place() {
        for (allowed, url, expected) in [
            ("", "file:///anywhere", true),
            ("", "/a/folder", true),
            ("", "s3://bucket/p", false),
            ("s3", "s3://bucket/p", true),
            ("s3", "s3a://bucket/p", true),
            ("s3://bucket", "s3://bucket/p", true),
            ("s3://bucket/", "s3://bucket", true),
            ("s3://bucket/p", "s3://bucket/p", true),
            ("s3://bucket/p", "s3a://bucket/p/q/", true),
            ("s3://bucket/p", "s3://bucket/pq", false),
            ("s3://bucket/p", "s3://bucket", false),
            ("s3://bucket/p", "s3://bucket/p/../q", false),
            ("s3://bucket/p", "s3://bucket/p/%2e%2e/q", false),
            ("s3://bucket/p", "s3://buckets/p", false),
            ("s3://other,s3://bucket", "s3://bucket/p", true),
        ] {
            let list: Vec<AllowedStore> = allowed
                .split(',')
                .filter(|text| !text.is_empty())
                .map(|text| text.parse().unwrap())
                .collect();
            assert_eq!(AllowedStore::permit(&list, url).unwrap(), expected, "{allowed} for {url}");
        }
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in ["", "S3", "gs", "file:///folder", "bucket/p", "https://host/x"] {
            let refusal = text.parse::<AllowedStore>().unwrap_err();
            assert!(
                refusal.contains("allowed: s3, or a place such as s3://BUCKET/PREFIX"),
                "{text}: {refusal}"
            );
        }
        assert!(
            "s3://key:secret@bucket"
                .parse::<AllowedStore>()
                .is_err_and(|refusal| !refusal.contains("secret"))
        );
        assert!(AllowedStore::permit(&[], "s3://key:secret@bucket").is_err());
    }
}
