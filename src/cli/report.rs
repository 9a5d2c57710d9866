//! `blis-opt report`: the files that follow from a study's journal, written again.

use std::path::PathBuf;

use clap::Args;

use super::batch;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::study::{Inputs, write_derived};
use crate::search::study::JOURNAL;

/// Print the summary of a study and rebuild the files derived from its journal
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folder of the study, such as results/500rps
    #[arg(value_name = "STUDY")]
    study: PathBuf,
}

/// Rebuilds and prints.
pub fn report(args: &ReportArgs, context: &Context) -> Result<Exit, Failure> {
    let studies = batch::studies_in(&args.study);
    if !args.study.join(JOURNAL).is_file() && !studies.is_empty() {
        return batch::report_all(&args.study, &studies, context);
    }
    let (inputs, state) = Inputs::from_journal(&args.study, context)?;
    let report = inputs.report(&state);
    write_derived(&report, &args.study)?;
    super::search::print(&report, &args.study, context)?;
    Ok(Exit::Fine)
}
