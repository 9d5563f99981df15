//! `sortie sql`: queries in SQL.

use std::collections::HashSet;

use anyhow::Result;
use sortie_analysis::{csv_text, markdown_text};
use sortie_core::named;
use sortie_core::parameters::number;
use sortie_proto::v1;
use sortie_proto::v1::query_value::Value;

use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::output;

/// Rows of a table that are aligned together. Longer answers are printed as several tables: they are never held as a whole.
const TABLE_ROWS: usize = 1_000;

/// Query the coordinator's database in SQL.
///
/// One SELECT statement over the views v_trials (every trial), v_evaluations (every measurement of a succeeded trial) and v_selected (the
/// step that each selection method chooses, with its accuracies); docs/sql.md describes their columns, which are alike on SQLite and
/// Postgres. Nothing else can be read, and nothing can be changed. For example:
///
/// sortie sql "select dropout, avg(ood_in) from v_selected where sweep = 'pacs' and selection = 'iid' and method = 'plain'
/// and combine is null group by dropout"
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The SELECT statement.
    #[arg(value_name = "QUERY")]
    query: String,
    /// The format: table, csv, json or markdown. Numbers are exact in all of them; NULL is empty, and null in JSON.
    #[arg(long, default_value_t = RowsFormat::Table)]
    format: RowsFormat,
    /// The same as --format json: one object with the names of the columns and the rows.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowsFormat {
    Table,
    Csv,
    Json,
    Markdown,
}
named!(RowsFormat, "format", { Table => "table", Csv => "csv", Json => "json", Markdown => "markdown" });

/// Prints the answer as it comes.
///
/// # Errors
/// One line: the query is refused, goes wrong or takes too long.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let format = if arguments.json { RowsFormat::Json } else { arguments.format };
    let mut client = Client::connect(connection).await?;
    let mut stream = client.query(&arguments.query).await?;
    let columns = stream.message().await.map_err(ClientError::from)?.unwrap_or_default().columns;
    let mut writer = Writer::new(format, columns);
    while let Some(chunk) = stream.message().await.map_err(ClientError::from)? {
        output::bytes(writer.rows(chunk.rows).as_bytes())?;
    }
    output::bytes(writer.end().as_bytes())
}

/// Rows as text, some at a time.
struct Writer {
    format: RowsFormat,
    columns: Vec<String>,
    /// Whether anything was written.
    begun: bool,
    /// Whether a row was.
    rows: bool,
    /// Rows of the table to come.
    page: Vec<Vec<String>>,
}

impl Writer {
    fn new(format: RowsFormat, columns: Vec<String>) -> Self {
        let columns = if format == RowsFormat::Json { distinct(&columns) } else { columns };
        Self { format, columns, begun: false, rows: false, page: Vec::new() }
    }

    /// These rows, after the header if it was not written yet.
    fn rows(&mut self, rows: Vec<v1::QueryRow>) -> String {
        let mut text = self.begin();
        for row in rows {
            let values = row.values.into_iter().map(|value| value.value);
            match self.format {
                RowsFormat::Table => {
                    self.page.push(values.map(|value| plain(&shown(value.as_ref()))).collect());
                    if self.page.len() >= TABLE_ROWS {
                        text += &self.table();
                    }
                }
                RowsFormat::Csv => text += &line("", ",", "", values.map(|value| csv(value.as_ref()))),
                RowsFormat::Markdown => {
                    text +=
                        &line("| ", " | ", " |", values.map(|value| markdown_text(&shown(value.as_ref()))))
                }
                RowsFormat::Json => {
                    let pairs = self
                        .columns
                        .iter()
                        .zip(values)
                        .map(|(name, value)| format!("{}:{}", quoted(name), json(value.as_ref())));
                    text += if self.rows { "," } else { "" };
                    text += line("{", ",", "}", pairs).trim_end();
                }
            }
            self.rows = true;
        }
        text
    }

    /// The header; empty the second time.
    fn begin(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) {
            return String::new();
        }
        let columns = self.columns.iter();
        match self.format {
            RowsFormat::Table => String::new(),
            RowsFormat::Csv => line("", ",", "", columns.map(|name| csv_text(name).into_owned())),
            RowsFormat::Markdown => {
                line("| ", " | ", " |", columns.clone().map(|name| markdown_text(name)))
                    + &line("| ", " | ", " |", columns.map(|_| "---".to_owned()))
            }
            RowsFormat::Json => line("{\"columns\":[", ",", "],\"rows\":[", columns.map(|name| quoted(name)))
                .trim_end()
                .to_owned(),
        }
    }

    /// The rows and the closing text that are left.
    fn end(&mut self) -> String {
        let begin = self.begin();
        begin
            + &match self.format {
                // An answer without rows has a header too.
                RowsFormat::Table if !self.page.is_empty() || !self.rows => self.table(),
                RowsFormat::Table | RowsFormat::Csv | RowsFormat::Markdown => String::new(),
                RowsFormat::Json => "]}\n".to_owned(),
            }
    }

    fn table(&mut self) -> String {
        let mut table = output::table(self.columns.iter().map(|name| plain(name)));
        table.add_rows(std::mem::take(&mut self.page));
        table.trim_fmt() + "\n"
    }
}

fn line(start: &str, between: &str, end: &str, values: impl Iterator<Item = String>) -> String {
    format!("{start}{}{end}\n", values.collect::<Vec<_>>().join(between))
}

/// The names as keys of a JSON object; repeated ones get a number.
fn distinct(columns: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = columns.iter().cloned().collect();
    let mut seen = HashSet::new();
    let mut keys = Vec::with_capacity(columns.len());
    for name in columns {
        let mut key = name.clone();
        if !seen.insert(name) {
            // There are fewer names than numbers.
            key = (2_usize..)
                .map(|count| format!("{name}_{count}"))
                .find(|key| !taken.contains(key))
                .unwrap_or_default();
            taken.insert(key.clone());
        }
        keys.push(key);
    }
    keys
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Integer(value)) => value.to_string(),
        Some(Value::Real(value)) => number(*value),
        Some(Value::Flag(value)) => value.to_string(),
        Some(Value::Decimal(text) | Value::Text(text)) => text.clone(),
    }
}

/// Text on one line of a terminal, without control characters.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn csv(value: Option<&Value>) -> String {
    match value {
        // An empty text differs from NULL.
        Some(Value::Text(text)) if text.is_empty() => "\"\"".to_owned(),
        value => csv_text(&shown(value)).into_owned(),
    }
}

fn json(value: Option<&Value>) -> String {
    match value {
        None => "null".to_owned(),
        // The shortest digits that read back as the same number. Numbers that JSON cannot hold are texts.
        Some(Value::Real(value)) if value.is_finite() => serde_json::Value::from(*value).to_string(),
        Some(Value::Decimal(digits)) if is_number(digits) => digits.clone(),
        Some(value @ (Value::Integer(_) | Value::Flag(_))) => shown(Some(value)),
        Some(value) => quoted(&shown(Some(value))),
    }
}

fn is_number(digits: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(digits).is_ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(format: RowsFormat, columns: &[&str], chunks: Vec<Vec<Vec<Option<Value>>>>) -> String {
        let mut writer = Writer::new(format, columns.iter().map(|&name| name.to_owned()).collect());
        let row = |values: Vec<Option<Value>>| v1::QueryRow {
            values: values.into_iter().map(|value| v1::QueryValue { value }).collect(),
        };
        let rows: String =
            chunks.into_iter().map(|chunk| writer.rows(chunk.into_iter().map(row).collect())).collect();
        rows + &writer.end()
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    fn chunks() -> Vec<Vec<Vec<Option<Value>>>> {
        let decimal = |digits: &str| Some(Value::Decimal(digits.to_owned()));
        vec![
            vec![vec![
                text("a\"b,c|\u{1b}"),
                Some(Value::Real(0.1 + 0.2)),
                decimal("12345678901234567890.50"),
            ]],
            vec![
                vec![None, Some(Value::Real(f64::INFINITY)), Some(Value::Integer(i64::MIN))],
                vec![text(""), Some(Value::Real(5e-324)), Some(Value::Flag(true))],
            ],
        ]
    }

    #[test]
    fn numbers_keep_every_bit_and_null_is_no_text() {
        let csv = "x,\"a,b\",x\n\"a\"\"b,c|\u{1b}\",0.30000000000000004,12345678901234567890.50\n,inf,-9223372036854775808\n\"\",5e-324,true\n";
        assert_eq!(answer(RowsFormat::Csv, &["x", "a,b", "x"], chunks()), csv);
        let json = concat!(
            r#"{"columns":["x","x_3","x_2"],"rows":[{"x":"a\"b,c|\u001b","x_3":0.30000000000000004,"x_2":12345678901234567890.50},"#,
            r#"{"x":null,"x_3":"inf","x_2":-9223372036854775808},{"x":"","x_3":5e-324,"x_2":true}]}"#,
            "\n"
        );
        assert_eq!(answer(RowsFormat::Json, &["x", "x", "x_2"], chunks()), json);
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(parsed["rows"][2]["x_3"].as_f64(), Some(5e-324));
    }

    #[test]
    fn tables_are_for_people() {
        let markdown = "| x | art\\_painting | x |\n| --- | --- | --- |\n| a\"b,c\\|\u{1b} | 0.30000000000000004 | 12345678901234567890.50 |\n\
                        |  | inf | -9223372036854775808 |\n|  | 5e-324 | true |\n";
        assert_eq!(answer(RowsFormat::Markdown, &["x", "art_painting", "x"], chunks()), markdown);
        let table = answer(RowsFormat::Table, &["x", "y\n", "x"], chunks());
        assert!(
            table.starts_with(" x") && table.contains(" a\"b,c|  ") && table.contains("0.30000000000000004"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 4);
        let long = answer(RowsFormat::Table, &["x"], vec![vec![vec![text("y")]; TABLE_ROWS + 1]]);
        assert_eq!(long.lines().count(), TABLE_ROWS + 3);
    }

    #[test]
    fn an_answer_without_rows_has_its_columns() {
        assert_eq!(
            answer(RowsFormat::Json, &["x", "y"], Vec::new()),
            "{\"columns\":[\"x\",\"y\"],\"rows\":[]}\n"
        );
        assert_eq!(answer(RowsFormat::Csv, &["x", "y"], Vec::new()), "x,y\n");
        assert_eq!(answer(RowsFormat::Markdown, &["x"], vec![Vec::new()]), "| x |\n| --- |\n");
        assert_eq!(answer(RowsFormat::Table, &["x", "y"], Vec::new()), " x  y\n");
    }
}
