//! The policy bundle that knobs are turned on.

use super::candidate::{Candidate, KnobValue};
use super::space::{SearchSpace, Unit};
use crate::config::{Node, Value};

/// A bundle as a tree, with what each option of a choice puts into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    tree: Node,
    /// Per knob of the space: the options of a choice; empty for numbers.
    options: Vec<Vec<Node>>,
}

impl Template {
    /// `tree` under the knobs of `space`; `options` holds per knob what each option of a choice
    /// puts at its path, and nothing for numbers.
    pub fn new(tree: Node, options: Vec<Vec<Node>>) -> Self {
        Self { tree, options }
    }

    /// The tree as the file has it.
    pub fn tree(&self) -> &Node {
        &self.tree
    }

    /// The tree under `candidate`. Knobs that do not matter leave the template's values.
    ///
    /// # Errors
    /// A sentence naming a path that another knob's choice has taken away.
    pub fn apply(&self, space: &SearchSpace, candidate: &Candidate) -> Result<Node, String> {
        let mut tree = self.tree.clone();
        for (index, knob) in space.knobs.iter().enumerate() {
            if !candidate.is_active(space, index) {
                continue;
            }
            let value = match candidate.values()[index] {
                KnobValue::Int(value) if knob.unit == Unit::Microseconds => {
                    Value::Text(super::space::duration(value))
                }
                KnobValue::Int(value) => Value::Int(value),
                KnobValue::Float(value) => Value::Float(value),
                KnobValue::Choice(option) => self.options[index][option].value.clone(),
            };
            if !tree.set(&knob.path, value) {
                return Err(format!("`{}` names nothing under this candidate", knob.path));
            }
        }
        Ok(tree)
    }
}
