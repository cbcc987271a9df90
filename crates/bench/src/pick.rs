//! What does one pick cost?

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    process::allow_open_files,
    servers::Servers,
    table::{Table, grouped},
    turns::progress,
};

/// What does one pick cost, by each policy, among few and among very many endpoints?
///
/// Criterion measures it in a package of its own, crates/bench/picks, because pingora-load-balancing, the peer, brings more
/// dependencies than all the rest: the first run compiles for some minutes. A pick is what a call does to have an
/// endpoint: load the picker, choose, see that the endpoint is connected, share it and count the call in and out. The
/// clock is the call's, which reads it for its deadline as well. All endpoints are connected. Each is measured in a process of
/// its own.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure only what has this in its name, as in `ring_hash` or `round_robin/10000`
    filter: Option<String>,
}

/// The most endpoints that are measured.
const ENDPOINTS: u32 = 10_000;

const BARE: &str = "bare sequence";

/// What pingora has of the same kind.
const PEERS: [(&str, &str); 6] = [
    ("round_robin", "pingora RoundRobin"),
    ("weighted_round_robin", "pingora RoundRobin"),
    ("random", "pingora Random"),
    ("weighted_random", "pingora Random"),
    ("ring_hash", "pingora Consistent (ketama)"),
    ("maglev", "pingora Consistent (ketama)"),
];

/// Nanoseconds by the number of endpoints, by what picks.
type Picks = BTreeMap<String, BTreeMap<u32, f64>>;

/// Measures and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    allow_open_files(ENDPOINTS)?;
    let (_server, port) = Servers::everywhere()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("picks");
    let target = target_dir()?;
    let found = target.join("criterion");
    if found.exists() {
        fs::remove_dir_all(&found).with_context(|| format!("cannot remove {}", found.display()))?;
    }
    let picks = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(["bench", "--manifest-path"])
            .arg(package.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .args(["--bench", "picks", "--"])
            .args(args)
            .env("PICKS_PORT", port.to_string())
            .env("CRITERION_HOME", &found);
        command
    };
    let mut list = picks(&["--list"]);
    list.args(&args.filter);
    // Cargo tells how far it has come with building them.
    list.stderr(Stdio::inherit());
    let names = names(&list.output().context("cannot run cargo")?)?;
    let bar = progress(names.len());
    for name in names {
        bar.set_message(name.clone());
        // What one leaves of the heap behind is not to be what another's endpoints are scattered over.
        let output = picks(&["--exact", &name]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "measuring {name} failed: {said}");
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("Connected endpoints, one thread, the median of criterion's samples\n");
    print!("{}", table(&read(&found)?));
    Ok(())
}

/// What criterion lists as `pick/round_robin/10: benchmark`.
fn names(listed: &Output) -> Result<Vec<String>> {
    ensure!(listed.status.success(), "the picks cannot be built");
    let lines = String::from_utf8_lossy(&listed.stdout);
    let names = lines
        .lines()
        .filter_map(|line| line.strip_suffix(": benchmark"));
    let names: Vec<_> = names.map(str::to_owned).collect();
    ensure!(
        !names.is_empty(),
        "there is nothing of that name to measure"
    );
    Ok(names)
}

/// Beside what this program was built into.
fn target_dir() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .context("this program is in no target directory")?
        .join("picks"))
}

fn table(picks: &Picks) -> Table {
    let sizes: BTreeSet<u32> = picks.values().flat_map(BTreeMap::keys).copied().collect();
    let mut header = vec!["pick".to_owned()];
    header.extend(
        sizes
            .iter()
            .map(|size| format!("ns, {}", grouped(f64::from(*size)))),
    );
    header.extend(["over the bare sequence", "over pingora's"].map(str::to_owned));
    let mut table = Table::new(header);
    for (name, figures) in picks {
        let of = |peer: &str| ratios(figures, picks.get(peer), &sizes);
        let peer = PEERS.iter().find(|(ours, _)| ours == name);
        let mut row = vec![name.clone()];
        row.extend(sizes.iter().map(|size| match figures.get(size) {
            Some(nanos) => format!("{nanos:.1}"),
            None => "–".into(),
        }));
        row.extend([
            of(BARE),
            peer.map_or_else(String::new, |(_, peer)| of(peer)),
        ]);
        table.row(row);
    }
    table
}

/// `1.02, 1.05, 1.31`: one for each size.
fn ratios(
    ours: &BTreeMap<u32, f64>,
    peer: Option<&BTreeMap<u32, f64>>,
    sizes: &BTreeSet<u32>,
) -> String {
    let ratio = |size: &u32| Some(ours.get(size)? / peer?.get(size)?);
    let shown = sizes.iter().map(|size| match ratio(size) {
        Some(ratio) => format!("{ratio:.2}"),
        None => "–".into(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Reads what criterion has written: a folder for each that picks, with one for each size in it.
fn read(found: &Path) -> Result<Picks> {
    #[derive(Deserialize)]
    struct Id {
        function_id: String,
        value_str: String,
    }
    #[derive(Deserialize)]
    struct Estimates {
        median: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    let mut picks = Picks::new();
    for picker in folders(&found.join("pick"))? {
        for size in folders(&picker)? {
            let newest = size.join("new");
            let id: Id = json(&newest.join("benchmark.json"))?;
            let estimates: Estimates = json(&newest.join("estimates.json"))?;
            let endpoints = id.value_str.parse().context("the number of endpoints")?;
            picks
                .entry(id.function_id)
                .or_default()
                .insert(endpoints, estimates.median.point_estimate);
        }
    }
    Ok(picks)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("criterion has left nothing in {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut folders = paths.collect::<Result<Vec<_>>>()?;
    // The summaries that criterion may write are no measurement.
    folders.retain(|path| path.is_dir() && !path.ends_with("report"));
    Ok(folders)
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{BARE, BTreeMap, Picks, table};

    #[test]
    fn picks_are_set_against_the_bare_sequence_and_against_pingora() {
        let at = |few: f64, many: f64| BTreeMap::from([(10, few), (1_000, many)]);
        let picks = Picks::from([
            (BARE.to_owned(), at(20.0, 40.0)),
            ("pingora RoundRobin".to_owned(), at(100.0, 100.0)),
            ("round_robin".to_owned(), at(25.0, 50.0)),
        ]);
        let shown = table(&picks).to_string();
        let ours = shown.lines().last().expect("a row");
        let cells: Vec<&str> = ours.split('|').map(str::trim).collect();
        assert_eq!(
            cells[1..6],
            ["round_robin", "25.0", "50.0", "1.25, 1.25", "0.25, 0.50"]
        );
    }
}
