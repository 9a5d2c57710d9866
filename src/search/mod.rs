//! What to try next: space, candidate, objective, proposers, study, journal, frontier.
//!
//! ```text
//! space + history --propose--> Candidate --cube/template--> policy --Evaluator--> Figures per seed
//!      ^                                                                             |
//!      +------------- Trial <--journal-- Score <--------------objective--------------+
//! ```
//!
//! A study is a deterministic machine over its journal: the next batch is a function of the space
//! and of the trials journalled so far, never of a clock, a thread or hidden state. To resume is
//! to read the journal and go on.

pub mod alike;
pub mod batch;
pub mod cache;
pub mod candidate;
pub mod capacity;
pub mod certificate;
pub mod cube;
pub mod dialogue;
pub mod error;
pub mod evaluate;
mod finalists;
pub mod fleet;
mod fleet_metrics;
pub mod foretell;
pub mod fresh;
mod identity;
mod jobs;
pub mod journal;
pub mod metric;
pub mod objective;
mod odds;
mod overlooked;
pub mod pareto;
pub mod plan;
pub mod promise;
pub mod propose;
pub mod race;
pub mod read;
mod read_goal;
mod read_knobs;
pub mod relation;
pub mod retest;
pub mod runs;
pub mod scenarios;
pub mod score;
pub mod setting;
pub mod simulated;
pub mod space;
pub mod spending;
pub mod state;
mod stopping;
pub mod study;
pub mod template;
mod verify;

pub use alike::{Alike, Which};
pub use cache::RunCache;
pub use candidate::{Candidate, KnobValue};
pub use capacity::{capacities, capacity_rps};
pub use certificate::{Neighbour, Outcome};
pub use error::StudyError;
pub use evaluate::{Evaluator, Foresight, Job, Run, Sink, Stop};
pub use fresh::{Finding, Verification};
pub use journal::SearchEnd;
pub use metric::{Better, Figures, MetricName};
pub use objective::{Bound, Constraint, Direction, FitnessWeights, Objective};
pub use pareto::{ParetoPoint, Retest};
pub use plan::StudyPlan;
pub use promise::Basis;
pub use propose::{Origin, Proposal, Proposer, ProposerKind};
pub use read::{ReadFile, Source, SourceRole, SpaceFile, open_beside, read_space};
pub use runs::{Offer, RunLength, RunWishes, run_length};
pub use score::{ConstraintScore, Score};
pub use simulated::SimulatedEvaluator;
pub use space::{Budget, Condition, Domain, Knob, Proof, SearchSpace, Seeds, Seek, Unit};
pub use state::{StudyState, Trial};
pub use study::{
    Limits, Mode, NoObserver, Observer, Phase, Progress, Study, StudyEnd, StudyOptions,
};
pub use template::Template;
