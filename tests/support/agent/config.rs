//! The configuration file of an agent under test.

use super::docker::TEST_IMAGE;
use toml_edit::{DocumentMut, Item, Table, value};

/// A registered agent with the test image that polls every second. It sends no notes of its own, so that a test's results
/// are those of its task; `engine::notes` has the tests with them.
pub fn usual(base_url: &str, credentials: Option<&(String, String)>) -> String {
    let mut document = DocumentMut::new();
    document["server"] = Item::Table(Table::new());
    document["server"]["base_url"] = value(base_url);
    document["server"]["poll_interval_secs"] = value(1);
    document["agent"] = Item::Table(Table::new());
    if let Some((service_id, api_key)) = credentials {
        document["agent"]["service_id"] = value(service_id);
        document["agent"]["api_key"] = value(api_key);
    }
    document["agent"]["name"] = value("test-agent");
    document["executor"] = Item::Table(Table::new());
    document["executor"]["image"] = value(TEST_IMAGE);
    document["paths"] = Item::Table(Table::new());
    document["paths"]["data_dir"] = value("./data");
    // The test machine may have little free space.
    document["paths"]["min_free_disk_mb"] = value(16);
    document["outputs"] = Item::Table(Table::new());
    document["outputs"]["notes"] = value(false);
    document.to_string()
}

/// Merges the fragment's keys into the file. Arrays are replaced.
pub fn laid_over(text: &str, fragment: &str) -> String {
    let mut document: DocumentMut = text.parse().expect("the configuration is TOML");
    let fragment: DocumentMut = fragment.parse().expect("the fragment is TOML");
    lay(document.as_table_mut(), fragment.as_table());
    document.to_string()
}

fn lay(onto: &mut Table, from: &Table) {
    for (key, item) in from {
        match (onto.get_mut(key), item) {
            (Some(Item::Table(onto)), Item::Table(from)) => lay(onto, from),
            _ => {
                onto.insert(key, item.clone());
            }
        }
    }
}
