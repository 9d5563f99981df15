//! The answer to a query in SQL: columns and rows of values.

use std::collections::HashSet;

use sortie_core::named;
use sortie_core::parameters::number;

use super::style;
use crate::render::markdown_text;
use crate::rows::csv_text;

/// Rows of a table that are aligned together. Longer answers are printed as several tables: they are never held as a whole.
const TABLE_ROWS: usize = 1_000;

/// How the rows of an answer are written. Numbers are exact in all formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFormat {
    /// A table for a terminal.
    Table,
    /// A header and one line for each row.
    Csv,
    /// One object with the names of the columns and the rows.
    Json,
    /// A table in Markdown.
    Markdown,
}
named!(QueryFormat, "format", { Table => "table", Csv => "csv", Json => "json", Markdown => "markdown" });

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// An integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// A number with digits and at most one point, of any length.
    Decimal(String),
    /// True or false.
    Flag(bool),
    /// A text, or any other value as the database writes it.
    Text(String),
}

/// Rows as text, some at a time.
pub struct QueryWriter {
    format: QueryFormat,
    columns: Vec<String>,
    /// Whether anything was written.
    begun: bool,
    /// Whether a row was.
    rows: bool,
    /// Rows of the table to come.
    page: Vec<Vec<String>>,
}

impl QueryWriter {
    /// A writer of rows with these columns.
    pub fn new(format: QueryFormat, columns: Vec<String>) -> Self {
        let columns = if format == QueryFormat::Json { distinct(&columns) } else { columns };
        Self { format, columns, begun: false, rows: false, page: Vec::new() }
    }

    /// These rows, after the header if it was not written yet.
    pub fn rows(&mut self, rows: Vec<Vec<Option<QueryValue>>>) -> String {
        let mut text = self.begin();
        for row in rows {
            let values = row.into_iter();
            match self.format {
                QueryFormat::Table => {
                    self.page.push(values.map(|value| plain(&shown(value.as_ref()))).collect());
                    if self.page.len() >= TABLE_ROWS {
                        text += &self.table();
                    }
                }
                QueryFormat::Csv => text += &line("", ",", "", values.map(|value| csv(value.as_ref()))),
                QueryFormat::Markdown => {
                    text +=
                        &line("| ", " | ", " |", values.map(|value| markdown_text(&shown(value.as_ref()))))
                }
                QueryFormat::Json => {
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
            QueryFormat::Table => String::new(),
            QueryFormat::Csv => line("", ",", "", columns.map(|name| csv_text(name).into_owned())),
            QueryFormat::Markdown => {
                line("| ", " | ", " |", columns.clone().map(|name| markdown_text(name)))
                    + &line("| ", " | ", " |", columns.map(|_| "---".to_owned()))
            }
            QueryFormat::Json => {
                line("{\"columns\":[", ",", "],\"rows\":[", columns.map(|name| quoted(name)))
                    .trim_end()
                    .to_owned()
            }
        }
    }

    /// The rows and the closing text that are left.
    pub fn end(&mut self) -> String {
        let begin = self.begin();
        begin
            + &match self.format {
                // An answer without rows has a header too.
                QueryFormat::Table if !self.page.is_empty() || !self.rows => self.table(),
                QueryFormat::Table | QueryFormat::Csv | QueryFormat::Markdown => String::new(),
                QueryFormat::Json => "]}\n".to_owned(),
            }
    }

    fn table(&mut self) -> String {
        let mut table = style::table(self.columns.iter().map(|name| plain(name)));
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

fn shown(value: Option<&QueryValue>) -> String {
    match value {
        None => String::new(),
        Some(QueryValue::Integer(value)) => value.to_string(),
        Some(QueryValue::Real(value)) => number(*value),
        Some(QueryValue::Flag(value)) => value.to_string(),
        Some(QueryValue::Decimal(text) | QueryValue::Text(text)) => text.clone(),
    }
}

/// Text on one line of a terminal, without control characters.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn csv(value: Option<&QueryValue>) -> String {
    match value {
        // An empty text differs from NULL.
        Some(QueryValue::Text(text)) if text.is_empty() => "\"\"".to_owned(),
        value => csv_text(&shown(value)).into_owned(),
    }
}

fn json(value: Option<&QueryValue>) -> String {
    match value {
        None => "null".to_owned(),
        // The shortest digits that read back as the same number. Numbers that JSON cannot hold are texts.
        Some(QueryValue::Real(value)) if value.is_finite() => serde_json::Value::from(*value).to_string(),
        Some(QueryValue::Decimal(digits)) if is_number(digits) => digits.clone(),
        Some(value @ (QueryValue::Integer(_) | QueryValue::Flag(_))) => shown(Some(value)),
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

    fn answer(format: QueryFormat, columns: &[&str], chunks: Vec<Vec<Vec<Option<QueryValue>>>>) -> String {
        let mut writer = QueryWriter::new(format, columns.iter().map(|&name| name.to_owned()).collect());
        let rows: String = chunks.into_iter().map(|chunk| writer.rows(chunk)).collect();
        rows + &writer.end()
    }

    fn text(text: &str) -> Option<QueryValue> {
        Some(QueryValue::Text(text.to_owned()))
    }

    fn chunks() -> Vec<Vec<Vec<Option<QueryValue>>>> {
        let decimal = |digits: &str| Some(QueryValue::Decimal(digits.to_owned()));
        vec![
            vec![vec![
                text("a\"b,c|\u{1b}"),
                Some(QueryValue::Real(0.1 + 0.2)),
                decimal("12345678901234567890.50"),
            ]],
            vec![
                vec![None, Some(QueryValue::Real(f64::INFINITY)), Some(QueryValue::Integer(i64::MIN))],
                vec![text(""), Some(QueryValue::Real(5e-324)), Some(QueryValue::Flag(true))],
            ],
        ]
    }

    #[test]
    fn numbers_keep_every_bit_and_null_is_no_text() {
        let csv = "x,\"a,b\",x\n\"a\"\"b,c|\u{1b}\",0.30000000000000004,12345678901234567890.50\n,inf,-9223372036854775808\n\"\",5e-324,true\n";
        assert_eq!(answer(QueryFormat::Csv, &["x", "a,b", "x"], chunks()), csv);
        let json = concat!(
            r#"{"columns":["x","x_3","x_2"],"rows":[{"x":"a\"b,c|\u001b","x_3":0.30000000000000004,"x_2":12345678901234567890.50},"#,
            r#"{"x":null,"x_3":"inf","x_2":-9223372036854775808},{"x":"","x_3":5e-324,"x_2":true}]}"#,
            "\n"
        );
        assert_eq!(answer(QueryFormat::Json, &["x", "x", "x_2"], chunks()), json);
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(parsed["rows"][2]["x_3"].as_f64(), Some(5e-324));
    }

    #[test]
    fn tables_are_for_people() {
        let markdown = "| x | art\\_painting | x |\n| --- | --- | --- |\n| a\"b,c\\|\u{1b} | 0.30000000000000004 | 12345678901234567890.50 |\n\
                        |  | inf | -9223372036854775808 |\n|  | 5e-324 | true |\n";
        assert_eq!(answer(QueryFormat::Markdown, &["x", "art_painting", "x"], chunks()), markdown);
        let table = answer(QueryFormat::Table, &["x", "y\n", "x"], chunks());
        assert!(
            table.starts_with(" x") && table.contains(" a\"b,c|  ") && table.contains("0.30000000000000004"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 4);
        let long = answer(QueryFormat::Table, &["x"], vec![vec![vec![text("y")]; TABLE_ROWS + 1]]);
        assert_eq!(long.lines().count(), TABLE_ROWS + 3);
    }

    #[test]
    fn an_answer_without_rows_has_its_columns() {
        assert_eq!(
            answer(QueryFormat::Json, &["x", "y"], Vec::new()),
            "{\"columns\":[\"x\",\"y\"],\"rows\":[]}\n"
        );
        assert_eq!(answer(QueryFormat::Csv, &["x", "y"], Vec::new()), "x,y\n");
        assert_eq!(answer(QueryFormat::Markdown, &["x"], vec![Vec::new()]), "| x |\n| --- |\n");
        assert_eq!(answer(QueryFormat::Table, &["x", "y"], Vec::new()), " x  y\n");
    }
}
