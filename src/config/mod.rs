//! Text to values with good manners: file, line, column, all problems at once.
//!
//! A file is [`parse`]d into a tree of [`Node`]s that know where they stand; readers take a
//! map apart through [`Fields`], which marks what was read, and gather everything that is wrong
//! in [`Problems`]. Nothing here stops at the first problem and nothing panics on any input.

mod defaults;
mod defaults_read;
mod delay;
mod fields;
mod json;
mod node;
mod parse;
mod path;
mod problem;
mod render;
mod scalar;
mod suggest;
mod write;

pub use defaults::{
    Defaults, Market, ModelHardware, ModelQuery, ModelRow, NotFound, Preset, PresetLengths, Price,
    StartUpRow,
};
pub use defaults_read::{KV_BLOCKS_MAX, TENSOR_PARALLELISM_MAX, read_alpha, read_beta};
pub use delay::{DELAY_MAX, SHAPE_BOUNDS, is_distribution, read_delay, read_stages};
pub use fields::Fields;
pub use node::{Key, Node, Position, Value};
pub use parse::parse;
pub use problem::{Problem, Problems, Severity};
pub use scalar::{
    Bounds, DAY, read_bool, read_f64, read_list, read_one_of, read_span, read_text, read_u32,
    read_u64, span_from_text,
};
pub use suggest::{did_you_mean, nearest};
