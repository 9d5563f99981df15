//! `sortie pin` and `sortie unpin`: which content the name of a dataset or of weights means.

use anyhow::Result;
use serde_json::json;
use sortie_core::inputs::InputKind;
use sortie_proto::v1::{PinRequest, PinResponse, UnpinRequest, UnpinResponse};

use crate::connection::{Client, Connection};
use crate::output;

/// Say which digest of a dataset or of weights counts.
///
/// A digest counts once two machines have it, and others are quarantined then. Where two machines disagree and no third one decides, all
/// trials of that name wait for this command; `sortie explain` and `sortie status` show the digests. Machines with another one are
/// quarantined for that dataset or those weights. Results that were made with another one stay: their number is printed.
#[derive(Debug, clap::Args)]
pub struct PinArguments {
    #[command(flatten)]
    input: InputArguments,
    /// The digest, or its first digits if a machine has reported it.
    digest: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Forget the digests of a dataset or of weights.
///
/// The next report pins anew. Machines that are quarantined for that dataset or those weights are tried again. This is for data that was
/// changed on purpose: results that were made with what was there before stay.
#[derive(Debug, clap::Args)]
pub struct UnpinArguments {
    #[command(flatten)]
    input: InputArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A dataset or weights.
#[derive(Debug, clap::Args)]
struct InputArguments {
    /// The name of the dataset or of the weights.
    name: String,
    /// Which of them, where both have that name: dataset or weights.
    #[arg(long, value_name = "KIND")]
    kind: Option<InputKind>,
}

impl InputArguments {
    fn kind(&self) -> String {
        self.kind.map(InputKind::as_str).unwrap_or_default().to_owned()
    }
}

/// Makes a digest the one that counts.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn pin(arguments: &PinArguments, connection: &Connection) -> Result<()> {
    let PinArguments { input, digest, json } = arguments;
    let (name, kind) = (input.name.clone(), input.kind());
    let request = PinRequest { name: name.clone(), kind, digest: digest.clone() };
    let PinResponse { kind, digest, machines, trials } =
        Client::connect(connection).await?.pin(request).await?;
    if *json {
        return output::json(&json!({
            "kind": kind, "name": name, "digest": digest, "machines": machines, "trials": trials
        }));
    }
    let mut text = format!("{kind} {name} has digest {digest}");
    if !machines.is_empty() {
        text.push_str(&format!("; quarantined for it: {}", machines.join(", ")));
    }
    if trials > 0 {
        text.push_str(&format!(
            "\n{trials} trials have a result that was made with another digest: it stays"
        ));
    }
    output::text(&text)
}

/// Forgets digests.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn unpin(arguments: &UnpinArguments, connection: &Connection) -> Result<()> {
    let UnpinArguments { input, json } = arguments;
    let (name, kind) = (input.name.clone(), input.kind());
    let request = UnpinRequest { name: name.clone(), kind };
    let UnpinResponse { kind, digests } = Client::connect(connection).await?.unpin(request).await?;
    if *json {
        return output::json(&json!({ "kind": kind, "name": name, "digests": digests }));
    }
    output::text(&format!("{kind} {name}: {} forgotten; the next report pins anew", digests.join(", ")))
}
