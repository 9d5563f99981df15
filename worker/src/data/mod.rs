//! Images on disk in DomainBed's layout, `<root>/<dataset>/<domain>/<class>/<file>`: found, digested, decoded, split.

mod decode;
mod folder;
mod images;
mod split;

pub use decode::{DecodedImage, decode};
pub use folder::{DatasetFolder, ImageFile};
pub use images::{Images, default_budget_bytes};
pub use split::split_domains;
