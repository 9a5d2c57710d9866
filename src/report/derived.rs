//! The files that follow from a study's journal.

use super::study::StudyReport;

/// A file of a study besides its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedFile {
    /// Its name in the study's folder.
    pub name: &'static str,
    /// Its whole text; `None` where there must be no such file.
    pub text: Option<String>,
}

impl StudyReport<'_> {
    /// All derived files. The same journal gives the same bytes.
    pub fn derived_files(&self) -> Vec<DerivedFile> {
        let pareto = serde_json::to_string_pretty(&self.pareto_json());
        let pareto = pareto.expect("a document of texts and finite numbers") + "\n";
        vec![
            DerivedFile { name: "best-policy.yaml", text: self.best_policy() },
            DerivedFile { name: "trials.csv", text: Some(self.trials_csv()) },
            DerivedFile { name: "pareto.csv", text: Some(self.pareto_csv()) },
            DerivedFile { name: "pareto.json", text: Some(pareto) },
            DerivedFile { name: "pareto.svg", text: self.pareto_svg() },
        ]
    }
}
