
mod samplers;
