//! For the fuzz targets and tests.

/// The smallest file that is right.
pub const SMALL: &str = "\
[project]
name = \"small\"
version = \"0.1.0\"
[template]
name = \"small\"
base_image = \"base\"
[commands]
start = [\"true\"]
";
