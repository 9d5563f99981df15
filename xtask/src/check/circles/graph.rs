//! Circles among the files of a crate.

use petgraph::algo::{astar, tarjan_scc};
use petgraph::graphmap::DiGraphMap;

use super::dependencies::Dependencies;

type Graph<'a> = DiGraphMap<&'a str, ()>;

/// One line for each circle.
pub fn complaints(needs: &Dependencies) -> Vec<String> {
    let edges = needs.iter().flat_map(|(file, needed)| needed.keys().map(|needed| (&**file, &**needed)));
    let graph = Graph::from_edges(edges);
    circles(&graph).iter().map(|circle| shown(needs, circle)).collect()
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
