//! Medians and quartiles.

use super::problems::{Best, Truth};

/// What one study came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// On which problem.
    pub problem: String,
    /// By which proposer.
    pub method: String,
    /// Which repetition.
    pub repetition: u64,
    /// The cost of the best truly feasible candidate after so many evaluations.
    pub at: Vec<(u32, Option<f64>)>,
    /// The truth about its winner.
    pub winner: Option<Truth>,
    /// CPU time besides runs over evaluations, in seconds.
    pub cpu_per_evaluation_s: f64,
    /// Wall time in seconds.
    pub wall_s: f64,
    /// Runs on the search's seeds over seeds per evaluation.
    pub evaluations: f64,
    /// Runs on fresh seeds.
    pub fresh_runs: u64,
}

/// Prints a problem's table, a line per method.
pub fn print_table(problem: &str, best: Option<Best>, at: &[u32], rows: &[Row]) {
    let known = best.map_or_else(String::new, |best| format!(", best known {:.2}", best.cost));
    println!("\n## {problem}{known}\n");
    let heads: Vec<String> = at.iter().map(|budget| format!("@{budget}")).collect();
    println!("| method | n | {} | winner | kept | CPU/evaluation | wall |", heads.join(" | "));
    println!("|---|---|{}---|---|---|---|", "---|".repeat(at.len()));
    let mut methods: Vec<String> = rows.iter().map(|row| row.method.clone()).collect();
    methods.sort();
    methods.dedup();
    for method in methods {
        let of_method: Vec<&Row> = rows.iter().filter(|row| row.method == method).collect();
        print_line(&method, at.len(), &of_method);
    }
}

fn print_line(method: &str, columns: usize, rows: &[&Row]) {
    let spread = |of: &dyn Fn(&Row) -> Option<f64>, digits: usize| {
        let values = rows.iter().map(|row| of(row).unwrap_or(f64::INFINITY));
        let [low, middle, high] = quartiles(values.collect());
        let show = |value: f64| {
            if value.is_finite() { format!("{value:.digits$}") } else { "-".to_owned() }
        };
        format!("{} [{}, {}]", show(middle), show(low), show(high))
    };
    let costs = (0..columns).map(|column| spread(&|row| row.at[column].1, 2));
    let costs: Vec<String> = costs.collect();
    let kept = rows.iter().filter(|row| row.winner.is_some_and(|truth| truth.feasible)).count();
    let winner = spread(&|row| row.winner.map(|truth| truth.cost), 2);
    let cpu = spread(&|row| Some(1000.0 * row.cpu_per_evaluation_s), 1);
    let wall = spread(&|row| Some(row.wall_s), 1);
    let (n, costs) = (rows.len(), costs.join(" | "));
    println!("| {method} | {n} | {costs} | {winner} | {kept}/{n} | {cpu} ms | {wall} s |");
}

/// The quartiles of `values`, linear between neighbours.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| {
        let place = share * (values.len() - 1) as f64;
        let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
        let part = place.fract();
        if part > 0.0 { low + (high - low) * part } else { low }
    })
}
