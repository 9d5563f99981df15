//! Rewrites messages of the TOML reader: the key, what is allowed, and the value that was found.

/// The reader's message about the value at this byte of the text, as one line.
pub(super) fn plain(text: &str, at: usize, message: &str) -> String {
    let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = wrong.and_then(|wrong| wrong.split_once(", expected ")) else {
        return message;
    };
    let value = value(found);
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" if value.starts_with('-') => {
            "a whole number that is not negative"
        }
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "one whole number",
        "f32" | "f64" => "one number",
        "a boolean" => "true or false",
        "a string" => "one text",
        "a sequence" => "a list",
        "a map" => "a table",
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{} must be {expected}, not {value}", key(text, at).unwrap_or_else(|| "this value".to_owned()))
}

/// A value as a user would write or name it.
fn value(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        other => {
            let written = ["integer `", "floating point `", "boolean `"].iter().find_map(|kind| {
                other.strip_prefix(kind).and_then(|rest| rest.strip_suffix('`')).map(str::to_owned)
            });
            written.unwrap_or_else(|| other.strip_prefix("string ").unwrap_or(other).to_owned())
        }
    }
}

/// The key whose value stands at this byte, as `table.key`.
fn key(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let is_header = |line: &&str| {
        line.starts_with('[')
            && line.ends_with(']')
            && !line.contains(['=', ',', '"', '\''])
            && line.len() > 2
    };
    // A list may go over several lines: the key is on the last one with an equals sign.
    let line = before.lines().rev().find(|line| line.contains('='))?;
    let outer = line.split('=').next()?.trim();
    let inner = line.rsplit_once('=')?.0.rsplit(['{', ',', '=']).next()?.trim();
    let own =
        if line.contains('{') && inner != outer { format!("{outer}.{inner}") } else { outer.to_owned() };
    let above = &before[..before.rfind(line)?];
    let table = above.lines().rev().map(str::trim).find(is_header);
    let table = table.map(|header| header.trim_matches(['[', ']']).trim());
    Some(table.map_or(own.clone(), |table| format!("{table}.{own}")))
}

#[cfg(test)]
mod tests {
    use crate::spec::SweepSpec;

    #[test]
    fn a_value_of_another_type_is_named_with_its_key_and_what_it_must_be() {
        let sweep = "name = 's'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'efficientnet-lite0'\n";
        for (rest, line) in [
            (
                "[train]\nevaluate_every = [10, 20]",
                "train.evaluate_every must be one whole number, not a list",
            ),
            ("[train]\nsteps = [[10]]", "train.steps must be one whole number, not a list"),
            ("[train]\nsteps = 1.5", "train.steps must be one whole number, not 1.5"),
            ("[train]\nsteps = -1", "train.steps must be a whole number that is not negative, not -1"),
            ("[train]\nsteps = 'many'", "train.steps must be one whole number, not \"many\""),
            ("[train]\nmomentum = true", "train.momentum must be one number, not true"),
            ("[train]\nmilestones = 5", "train.milestones must be a list, not 5"),
            ("[keep]\nlogits = 1", "keep.logits must be true or false, not 1"),
            ("[require]\ntags = [\n  'a',\n  3]", "require.tags must be one text, not 3"),
            ("[train]\naverage = { from = [1] }", "train.average.from must be one whole number, not a list"),
            ("[train]\naverage = 7", "train.average must be a table, not 7"),
        ] {
            let error = SweepSpec::parse(&format!("{sweep}{rest}\n"), None).unwrap_err().to_string();
            assert!(error.ends_with(line), "{error}");
        }
    }
}
