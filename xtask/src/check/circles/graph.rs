//! Circles among the files of a crate, apart from the exceptions.

use petgraph::algo::{astar, has_path_connecting, tarjan_scc};
use petgraph::graphmap::DiGraphMap;

use super::dependencies::Dependencies;

/// A file and one that it needs although that closes a circle.
pub type Exception<'a> = (&'a str, &'a str);

type Graph<'a> = DiGraphMap<&'a str, ()>;

/// One line for each circle that is left without the exceptions, and one for each exception that is not
/// needed.
pub fn complaints(needs: &Dependencies, exceptions: &[Exception<'_>]) -> Vec<String> {
    let edges = needs.iter().flat_map(|(file, needed)| needed.keys().map(|needed| (&**file, &**needed)));
    let mut graph = Graph::from_edges(edges);
    let (closing, gone): (Vec<_>, Vec<_>) =
        exceptions.iter().partition(|(from, to)| graph.remove_edge(from, to).is_some());
    let mut complaints: Vec<String> = circles(&graph).iter().map(|circle| shown(needs, circle)).collect();
    complaints.extend(
        gone.iter()
            .map(|(from, to)| format!("{from} -> {to} is no more: remove it from the list of exceptions")),
    );
    for (from, to) in closing {
        if !has_path_connecting(&graph, to, from, None) {
            complaints.push(format!(
                "{from} -> {to} closes no circle any more: remove it from the list of exceptions"
            ));
            // Of two exceptions that only together close a circle, one has to stay.
            graph.add_edge(from, to, ());
        }
    }
    complaints
}

/// A shortest circle of each group of files that all need each other; its first file is not repeated.
fn circles<'a>(graph: &Graph<'a>) -> Vec<Vec<&'a str>> {
    let mut circles = Vec::new();
    for group in tarjan_scc(graph).iter().filter(|group| group.len() > 1) {
        let ways = group.iter().flat_map(|start| {
            let steps = graph.neighbors(start);
            steps.filter_map(move |next| astar(graph, next, |file| file == *start, |_| 1, |_| 0))
        });
        circles.extend(ways.min().map(|(_, files)| files));
    }
    circles.sort_unstable();
    circles
}

/// The way around, with the path that makes each step.
fn shown(needs: &Dependencies, circle: &[&str]) -> String {
    let mut from = circle.last().copied().unwrap_or_default();
    let mut shown = from.to_owned();
    for to in circle {
        shown += &format!(" -> {to} ({})", needs[from][*to]);
        from = to;
    }
    shown
}
