//! `/files`: the contents of files, in and out.
