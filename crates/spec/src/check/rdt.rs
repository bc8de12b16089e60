//! `linux.intelRdt`.

use super::text;
use crate::error::{At, Result};
use crate::oci::IntelRdt;

/// Longest name of a directory (NAME_MAX).
const NAME_MAX: usize = 255;

/// Each schema is one line of the `schemata` file; the class is a directory, `/` the root one.
pub(super) fn intel_rdt(given: Option<&IntelRdt>, at: &At) -> Result<Option<IntelRdt>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let class = at.field("closID");
    let name = text::line(&given.clos_id, &class)?;
    if name != "/" && name.contains('/') || name == "." || name == ".." {
        return Err(class.invalid(name, "must be one directory name, or \"/\""));
    }
    if name.len() > NAME_MAX {
        return Err(class.invalid(name, format!("longer than {NAME_MAX} bytes")));
    }
    text::line(&given.l3_cache_schema, &at.field("l3CacheSchema"))?;
    let bandwidth = at.field("memBwSchema");
    let schema = text::line(&given.mem_bw_schema, &bandwidth)?;
    if !schema.is_empty() && !schema.starts_with("MB:") {
        return Err(bandwidth.invalid(schema, "must start with \"MB:\""));
    }
    let schemata = at.field("schemata");
    for (i, schema) in given.schemata.iter().enumerate() {
        text::line(schema, &schemata.index(i))?;
    }
    Ok(Some(given.clone()))
}
