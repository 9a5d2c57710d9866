//! Text to values with good manners: file, line, column, all problems at once.
