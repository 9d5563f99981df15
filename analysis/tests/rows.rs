//! Evaluations as rows, read back with other code: the same values, to the last bit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::Write;

use parquet::basic::Type as Physical;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;
use serde_json::{Value, json};
use sortie_analysis::{EvaluationWriter, ExportColumns, ExportCounts, RowFormat};
use sortie_core::command::CommandSettings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::record::TrialRecord;
use sortie_core::trial::{Point, Work};
use support::{evaluation, point, record, succeeded, work};

const HEADER: &str = "sweep,trial_id,state,held_out,lr,fast,layers,parameter.loss,seed,split_seed,method,step,domain,split,role,n,correct,accuracy,loss,seconds";

/// A trial of a command: `layers` has texts and numbers, `loss` is called like a column.
fn trial(seed: u64, layers: Scalar, state: StateName) -> TrialRecord {
    let work = Work::Command(CommandSettings {
        command: vec!["train".to_owned()],
        dataset: None,
        domains: Vec::new(),
        steps: None,
        complete_at: None,
    });
    let axes = [
        ("lr", Scalar::Number(1e-3.into())),
        ("fast", Scalar::Flag(true)),
        ("layers", layers),
        ("loss", Scalar::Text("a, \"b\"\n".into())),
    ];
    let parameters: Parameters = axes.map(|(name, value)| (name.to_owned(), value)).into();
    record(&work, Point { held_out: vec!["a".to_owned()], parameters, seed, split_seed: 7 }, state)
}

fn sweep(accuracies: &[f64], losses: &[Option<f64>]) -> Vec<TrialRecord> {
    let mut first = trial(0, Scalar::Text("all".into()), StateName::Succeeded);
    first
        .validation
        .push(Evaluation { method: Method::Average, ..evaluation(300, "b, c", SplitName::Out, 2, 3) });
    for (step, (value, loss)) in (0..).zip(accuracies.iter().zip(losses)) {
        let score = Score::Value { value: *value, n: 0 };
        first.held_out.push(Evaluation {
            score: Some(score),
            loss: *loss,
            ..evaluation(step, "a", SplitName::In, 0, 1)
        });
    }
    vec![first, trial(1, Scalar::Number(2.0.into()), StateName::Diverged)]
}

fn write(records: &[TrialRecord], format: RowFormat) -> (Vec<u8>, ExportCounts) {
    let mut axes = ExportColumns::default();
    records.iter().for_each(|record| axes.add(record));
    let mut sheet = EvaluationWriter::new(&axes, format, Vec::new()).unwrap();
    records.iter().for_each(|record| sheet.push("s", record, &[]).unwrap());
    sheet.finish().unwrap()
}

fn open(bytes: &[u8]) -> SerializedFileReader<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    SerializedFileReader::new(file).unwrap()
}

#[test]
fn every_evaluation_is_a_row_and_a_trial_without_any_is_one_too() {
    let records = sweep(&[0.1 + 0.2], &[None]);
    let (csv, written) = write(&records, RowFormat::Csv);
    assert_eq!(written, ExportCounts { trials: 2, without: 1, evaluations: 2, losses: 0 });
    let (first, second) = (records[0].id, records[1].id);
    let common = "1e-3,true,all,\"a, \"\"b\"\"\n\",0,7";
    let expected = format!(
        "{HEADER}\ns,{first},succeeded,a,{common},average,300,\"b, c\",out,training,3,2,0.6666666666666666,1,\n\
         s,{first},succeeded,a,{common},plain,0,a,in,held-out,,,0.30000000000000004,,\n\
         s,{second},diverged,a,1e-3,true,2,\"a, \"\"b\"\"\n\",1,7,,,,,,,,,,\n"
    );
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
    let (jsonl, _) = write(&records, RowFormat::Jsonl);
    let rows: Vec<Value> = jsonl
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let last = json!({
        "sweep": "s", "trial_id": second.to_string(), "state": "diverged", "held_out": "a", "lr": 1e-3, "fast": true, "layers": "2",
        "parameter.loss": "a, \"b\"\n", "seed": 1, "split_seed": 7, "method": null, "step": null, "domain": null, "split": null,
        "role": null, "n": null, "correct": null, "accuracy": null, "loss": null, "seconds": null,
    });
    assert!(
        rows.len() == 3 && rows[2] == last && rows[0]["loss"] == 1.0 && rows[1]["correct"].is_null(),
        "{rows:?}"
    );
}

#[test]
fn axes_stand_in_their_usual_order_between_the_trial_and_its_seeds() {
    let trial = succeeded(&work("PACS"), point("photo", 0.5, 1e-3, 3), 900, 800);
    let (csv, _) = write(std::slice::from_ref(&trial), RowFormat::Csv);
    let text = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(
            "sweep,trial_id,state,held_out,dropout,lr,weight_decay,head_lr_factor,seed,split_seed,method,"
        ),
        "{text}"
    );
    let first = format!(
        "s,{},succeeded,photo,0.5,1e-3,1e-4,1,3,0,plain,20,art_painting,in,training,1000,900,0.9,1,",
        trial.id
    );
    assert_eq!((lines[1], lines.len()), (first.as_str(), 9));
}

#[test]
fn what_came_while_the_file_was_written_is_refused() {
    let records = sweep(&[], &[]);
    let mut axes = ExportColumns::default();
    axes.add(&records[1]);
    let mut sheet = EvaluationWriter::new(&axes, RowFormat::Csv, Vec::new()).unwrap();
    sheet.push("s", &records[1], &[]).unwrap();
    let error = sheet.push("s", &records[0], &[]).unwrap_err().to_string();
    assert_eq!(error, "sweep s got new values of axis layers while it was exported: export it again");
    let mut grown = records[1].clone();
    grown.point.parameters.insert("combine".to_owned(), Scalar::Text("x".to_owned()));
    assert!(sheet.push("s", &grown, &[]).unwrap_err().to_string().contains("axis combine"));
}

#[test]
fn training_losses_are_rows_of_their_own_and_every_row_has_its_time() {
    let mut records = sweep(&[0.5], &[None]);
    records[0].held_out[0].seconds = Some(12.5);
    let mut axes = ExportColumns::default();
    records.iter().for_each(|record| axes.add(record));
    let mut sheet = EvaluationWriter::new(&axes, RowFormat::Csv, Vec::new()).unwrap();
    let loss = |step, seconds| TrainingLoss { step, loss: 0.1 + 0.2, seconds };
    sheet.push("s", &records[0], &[loss(0, Some(0.25)), loss(7, None)]).unwrap();
    sheet.push("s", &records[1], &[loss(0, None)]).unwrap();
    let (csv, written) = sheet.finish().unwrap();
    assert_eq!(written, ExportCounts { trials: 2, without: 1, evaluations: 2, losses: 3 });
    let text = String::from_utf8(csv).unwrap();
    for row in [
        ",0,7,plain,0,a,in,held-out,,,0.5,,12.5\n",
        ",0,7,plain,0,,batch,training,,,,0.30000000000000004,0.25\n",
        ",0,7,plain,7,,batch,training,,,,0.30000000000000004,\n",
        ",1,7,plain,0,,batch,training,,,,0.30000000000000004,\n",
        ",1,7,,,,,,,,,,\n",
    ] {
        assert_eq!(text.matches(row).count(), 1, "{row}: {text}");
    }
}

#[test]
fn each_named_metric_has_a_column() {
    let mut records = sweep(&[0.5], &[None]);
    let metrics = [("f1", 0.1 + 0.2), ("lr", 7.0)].map(|(name, value)| (name.to_owned(), value));
    records[0].held_out[0].metrics = metrics.into();
    let (csv, _) = write(&records, RowFormat::Csv);
    let text = String::from_utf8(csv).unwrap();
    assert!(text.starts_with(&format!("{HEADER},f1,metric.lr\n")), "{text}");
    assert!(
        text.contains(",held-out,,,0.5,,,0.30000000000000004,7\n")
            && text.contains(",3,2,0.6666666666666666,1,,,\n"),
        "{text}"
    );
    let mut columns = ExportColumns::default();
    columns.add(&records[1]);
    records[0].point = records[1].point.clone();
    let mut sheet = EvaluationWriter::new(&columns, RowFormat::Csv, Vec::new()).unwrap();
    let error = sheet.push("s", &records[0], &[]).unwrap_err().to_string();
    assert_eq!(error, "sweep s got new values of metric f1 while it was exported: export it again");
}

#[test]
fn parquet_has_types_and_groups_of_bounded_size() {
    let mut records = sweep(&[], &[]);
    records[0].held_out =
        (0..70_000).map(|step| evaluation(step, "a", SplitName::In, step % 100, 100)).collect();
    let (bytes, written) = write(&records, RowFormat::Parquet);
    let file = open(&bytes);
    let metadata = file.metadata();
    assert_eq!((metadata.num_row_groups(), metadata.file_metadata().num_rows()), (2, 70_002));
    assert_eq!(written.evaluations, 70_001);
    let columns = metadata.file_metadata().schema_descr().columns();
    let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
    assert_eq!(names.join(","), HEADER);
    let types: Vec<Physical> = columns.iter().map(|column| column.physical_type()).collect();
    let (text, number, whole) = (Physical::BYTE_ARRAY, Physical::DOUBLE, Physical::INT64);
    let expected = [
        text,
        text,
        text,
        text,
        number,
        Physical::BOOLEAN,
        text,
        text,
        whole,
        whole,
        text,
        whole,
        text,
        text,
        text,
        whole,
        whole,
        number,
        number,
        number,
    ];
    assert_eq!(types, expected);
    let last = file.get_row_iter(None).unwrap().last().unwrap().unwrap();
    let fields: Vec<(&String, &Field)> = last.get_column_iter().collect();
    assert!(fields[10..].iter().all(|(_, field)| **field == Field::Null), "{fields:?}");
    assert_eq!((fields[6].1, fields[8].1), (&Field::Str("2".to_owned()), &Field::Long(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fractions_and_losses_keep_their_last_bit(
        values in prop::collection::vec((prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO, prop::option::of(-1e300..1e300)), 1..20),
    ) {
        let (accuracies, losses): (Vec<f64>, Vec<Option<f64>>) = values.into_iter().unzip();
        let records = sweep(&accuracies, &losses);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        // Zero has no sign where numbers are written as people write them.
        let plain: Vec<f64> = accuracies.iter().map(|value| value + 0.0).collect();
        let (csv, _) = write(&records, RowFormat::Csv);
        let text = String::from_utf8(csv).unwrap();
        let held_out: Vec<Vec<&str>> = text.lines().filter(|line| line.contains(",held-out,")).map(|line| line.rsplit(',').collect()).collect();
        prop_assert_eq!(bits(&held_out.iter().map(|fields| fields[2].parse().unwrap()).collect::<Vec<f64>>()), bits(&plain));
        let read: Vec<Option<u64>> = held_out.iter().map(|fields| fields[1].parse::<f64>().ok().map(|loss| loss.to_bits())).collect();
        prop_assert_eq!(read, losses.iter().map(|loss| loss.map(|loss| (loss + 0.0).to_bits())).collect::<Vec<_>>());
        let (jsonl, _) = write(&records, RowFormat::Jsonl);
        let rows: Vec<Value> = jsonl.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        let read: Vec<f64> = rows.iter().filter(|row| row["role"] == "held-out").map(|row| row["accuracy"].as_f64().unwrap()).collect();
        prop_assert_eq!(bits(&read), bits(&accuracies));
        let (bytes, _) = write(&records, RowFormat::Parquet);
        let file = open(&bytes);
        let mut read = (Vec::new(), Vec::new());
        for row in file.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
            if let (Field::Str(role), &Field::Double(accuracy)) = (fields[14], fields[17]) && role == "held-out" {
                read.0.push(accuracy);
                read.1.push(if let Field::Double(loss) = fields[18] { Some(loss.to_bits()) } else { None });
            }
        }
        prop_assert_eq!(bits(&read.0), bits(&accuracies));
        prop_assert_eq!(read.1, losses.iter().map(|loss| loss.map(f64::to_bits)).collect::<Vec<_>>());
    }
}
