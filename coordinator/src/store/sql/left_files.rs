//! Parts of statements about what results have: the files that they left, and the methods that were evaluated.

/// Whether the sweep of the trial `other` is not deleted.
pub(super) const THERE: &str =
    "NOT EXISTS (SELECT 1 FROM sweeps AS gone WHERE gone.id = other.sweep_id AND gone.state = 'deleted')";

/// Whether the result of the trial `other` left such a file, or reported it without keeping it.
fn file(kind: &str, key: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM artifacts AS f WHERE f.token = other.result AND f.kind = '{kind}' AND f.key {key})"
    )
}

fn kept(kind: &str) -> String {
    file(kind, "IS NOT NULL")
}

/// Whether the result of the trial `other` has what six arguments from this one on ask for: the members of [`sortie_core::keep::Needs`],
/// the methods last.
pub(super) fn left(first: usize) -> String {
    let files = [
        kept("final-weights"),
        kept("selected-weights"),
        kept("final-logits"),
        format!("NOT {}", file("final-logits", "IS NULL")),
    ];
    let one = |(number, file): (usize, &String)| format!("(CAST(${number} AS BIGINT) = 0 OR {file})");
    let mut all: Vec<String> = (first..).zip(&files).map(one).collect();
    let [average, ensemble] = [first + 4, first + 5];
    all.push(format!("(CAST(${average} AS TEXT) = '' OR {})", made(&format!("average = ${average}"))));
    all.push(format!("(CAST(${ensemble} AS BIGINT) < 0 OR {})", made(&format!("ensemble = ${ensemble}"))));
    format!("({})", all.join(" AND "))
}

/// Whether the attempt that gave the trial `other` its result evaluated this.
fn made(what: &str) -> String {
    format!("EXISTS (SELECT 1 FROM attempts AS m WHERE m.token = other.result AND m.{what})")
}

/// What the result of the trial `other` has, as columns: see [`sortie_core::keep::LeftFiles`] and [`sortie_core::finetune::Methods`].
fn columns() -> String {
    let columns = [
        ("weights", kept("final-weights")),
        ("selected", kept("selected-weights")),
        ("logits", kept("final-logits")),
        ("logits_left_out", file("final-logits", "IS NULL")),
    ];
    let column =
        |(name, is): &(&str, String)| format!("CAST(CASE WHEN {is} THEN 1 ELSE 0 END AS BIGINT) AS {name}");
    let methods = ["average", "ensemble"].map(|method| {
        format!("(SELECT m.{method} FROM attempts AS m WHERE m.token = other.result) AS {method}")
    });
    columns.iter().map(column).chain(methods).collect::<Vec<_>>().join(", ")
}

/// Trials of a sweep whose own results lack files.
pub(super) fn lacking() -> String {
    format!(
        "SELECT other.id, other.result, {} FROM $rows(trial_id TEXT) AS v JOIN trials AS other ON other.trial_id = v.trial_id
        WHERE other.sweep_id = $2 AND other.state = 'succeeded' AND NOT {} ORDER BY other.position",
        columns(),
        left(3)
    )
}

/// Trials that wait in a sweep, or would, though they have results in other sweeps: all of those lack files.
pub(super) fn lacking_elsewhere() -> String {
    format!(
        "SELECT {} FROM $rows(trial_id TEXT) AS v JOIN trials AS other ON other.id =
            (SELECT other.id FROM trials AS other WHERE other.trial_id = v.trial_id AND other.sweep_id <> $2 AND other.state = 'succeeded'
                AND {THERE} ORDER BY other.result DESC LIMIT 1)
        WHERE NOT EXISTS (SELECT 1 FROM trials AS own WHERE own.trial_id = v.trial_id AND own.sweep_id = $2 AND own.state <> 'queued')
            AND NOT EXISTS (SELECT 1 FROM trials AS other WHERE other.trial_id = v.trial_id AND other.sweep_id <> $2
                AND other.state = 'succeeded' AND {THERE} AND {})",
        columns(),
        left(3)
    )
}

/// The machines whose own disks have what trials go on from: checkpoints of attempts that ended since, or results of the most members, the
/// last of which ended since.
pub(super) fn kept_on() -> String {
    "SELECT DISTINCT a.trial, w.machine
        FROM $rows(trial BIGINT) AS v JOIN attempts AS a ON a.trial = v.trial JOIN workers AS w ON w.id = a.worker
        WHERE w.checkpoints = 'local' AND a.ended_ms >= $2 AND EXISTS
            (SELECT 1 FROM artifacts AS r WHERE r.token = a.token AND r.kind = 'checkpoint' AND r.key IS NOT NULL)
    UNION SELECT h.trial, h.machine
        FROM (SELECT m.trial, w.machine, COUNT(*) AS held, MAX(COUNT(*)) OVER (PARTITION BY m.trial) AS most,
                MAX(MAX(a.ended_ms)) OVER (PARTITION BY m.trial) AS latest
            FROM $rows(trial BIGINT) AS v JOIN members AS m ON m.trial = v.trial JOIN trials AS t ON t.id = m.member
            JOIN attempts AS a ON a.token = COALESCE(t.earlier, t.result) JOIN workers AS w ON w.id = a.worker
            WHERE w.checkpoints = 'local' GROUP BY m.trial, w.machine) AS h
        WHERE h.held = h.most AND h.latest >= $2 ORDER BY 1, 2"
        .to_owned()
}
