//! The only room that prints, reads the command line, or exits.
