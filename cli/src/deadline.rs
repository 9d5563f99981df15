//! The end of a worker's time, from `--until` or the batch system.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};

/// The time until the earlier of the two ends: `until` as a user writes it (a point in time as RFC 3339, or a duration such as `3h` or
/// `45m`), and `job_end` as Slurm gives it (SLURM_JOB_END_TIME, seconds since 1970). None if there is no end.
///
/// # Errors
/// One line that names the option and the value.
pub fn time_left(
    until: Option<&str>,
    job_end: Option<&OsStr>,
    now: Duration,
) -> Result<Option<Duration>, String> {
    let until = until.map(|until| parse_until(until, now)).transpose()?;
    let job_end = job_end.map(|end| parse_job_end(end, now)).transpose()?;
    Ok(match (until, job_end) {
        (Some(until), Some(job_end)) => Some(until.min(job_end)),
        (until, job_end) => until.or(job_end),
    })
}

/// The wall clock, as time since 1970. Only this function reads it: points in time become durations here.
pub fn wall_clock() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "users and batch systems name the end of a worker's time by the wall clock"
    )]
    let now = SystemTime::now();
    // A clock before 1970 is wrong anyway and counts as 1970.
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn parse_until(text: &str, now: Duration) -> Result<Duration, String> {
    if let Ok(left) = text.parse::<SignedDuration>() {
        let left = Duration::try_from(left).ok().filter(|left| !left.is_zero());
        return left.ok_or_else(|| format!("--until {text:?} is not allowed; allowed: a point in time in the future, or a duration above 0"));
    }
    let end: Timestamp = text.parse().map_err(|_| {
        format!("--until {text:?} is neither a point in time such as 2026-01-31T18:00:00+01:00 nor a duration such as 3h or 45m")
    })?;
    let end = Duration::try_from(end.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
    let left = end.checked_sub(now).filter(|left| !left.is_zero());
    left.ok_or_else(|| format!("--until {text:?} is in the past"))
}

/// No time is left if the job should have ended already; that is no error.
fn parse_job_end(text: &OsStr, now: Duration) -> Result<Duration, String> {
    let seconds = text.to_str().and_then(|text| text.parse::<u64>().ok());
    let seconds = seconds
        .ok_or_else(|| format!("SLURM_JOB_END_TIME {text:?} is not a number of seconds since 1970"))?;
    Ok(Duration::from_secs(seconds).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_769_878_800);

    #[test]
    fn the_earlier_end_counts() {
        let left =
            |until: Option<&str>, job_end: Option<&str>| time_left(until, job_end.map(OsStr::new), NOW);
        let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
        assert_eq!(left(None, None), Ok(None));
        for (until, result) in [
            ("3h", 10_800),
            ("45m", 2_700),
            ("1h 30m", 5_400),
            ("PT90S", 90),
            ("2026-01-31T18:00:00+01:00", 0),
            ("2026-01-31T17:00:30Z", 30),
        ] {
            match result {
                0 => assert!(left(Some(until), None).unwrap_err().contains("is in the past"), "{until}"),
                result => assert_eq!(left(Some(until), None), seconds(result), "{until}"),
            }
        }
        assert_eq!(left(Some("3h"), Some("1769878830")), seconds(30));
        assert_eq!(left(Some("10s"), Some("1769878830")), seconds(10));
        assert_eq!(left(None, Some("1")), seconds(0));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for bad in ["", "soon", "18:00", "-3h", "0s", "3", "2026-01-31", "1970-01-01T00:00:00Z"] {
            let refused = time_left(Some(bad), None, NOW).unwrap_err();
            assert!(
                refused.starts_with(&format!("--until {bad:?}")) && refused.lines().count() == 1,
                "{refused}"
            );
        }
        assert!(
            time_left(None, Some(OsStr::new("never")), NOW)
                .unwrap_err()
                .contains("SLURM_JOB_END_TIME \"never\"")
        );
    }
}
