//! `sortie sql`: queries in SQL.

use anyhow::Result;
use sortie_analysis::{QueryFormat, QueryWriter};

use crate::connection::{Client, ClientError, Connection};
use crate::{output, rows};

/// Query the coordinator's database in SQL.
///
/// One SELECT statement over the views v_trials (every trial), v_evaluations (every measurement of a succeeded trial), v_metrics (their named
/// metrics), v_curves (every number of every trial by step) and v_selected (the step that each selection method chooses, with its accuracies); docs/sql.md
/// describes their columns, which are alike on SQLite and Postgres. Nothing else can be read, and nothing can be changed. For example:
///
/// sortie sql "select dropout, avg(ood_in) from v_selected where sweep = 'pacs' and selection = 'iid' and method = 'plain'
/// and combine is null group by dropout"
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The SELECT statement.
    #[arg(value_name = "QUERY")]
    query: String,
    /// The format: table, csv, json or markdown. Numbers are exact in all of them; NULL is empty, and null in JSON.
    #[arg(long, default_value_t = QueryFormat::Table)]
    format: QueryFormat,
    /// The same as --format json: one object with the names of the columns and the rows.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Prints the answer as it comes.
///
/// # Errors
/// One line: the query is refused, goes wrong or takes too long.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let format = if arguments.json { QueryFormat::Json } else { arguments.format };
    let mut client = Client::connect(connection).await?;
    let mut stream = client.query(&arguments.query).await?;
    let columns = stream.message().await.map_err(ClientError::from)?.unwrap_or_default().columns;
    let mut writer = QueryWriter::new(format, columns);
    while let Some(chunk) = stream.message().await.map_err(ClientError::from)? {
        let rows = chunk.rows.into_iter().map(rows::query_row).collect();
        output::bytes(writer.rows(rows).as_bytes())?;
    }
    output::bytes(writer.end().as_bytes())
}
