//! Datasets as they lie on people's disks: what is ignored and counted, what is refused in which words, and what a layout reads.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

use std::fs;
use std::path::Path;

use sortie_core::spec::DatasetRequest;
use sortie_core::trial::{MissingClasses, SplitBy};
use sortie_data::{DataError, DatasetFolder, Discovered, Images, NoProgress, check, read};

/// A data root with one dataset.
struct Root {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Root {
    /// Images 0.png to 2.png in each `<domain>/<between><class>`.
    fn new(name: &'static str, domains: &[&str], between: &str, classes: &[&str]) -> Self {
        let root = Self { folder: tempfile::tempdir().unwrap(), name };
        for domain in domains {
            for class in classes {
                for image in 0..3 {
                    root.image(&format!("{domain}/{between}{class}/{image}.png"));
                }
            }
        }
        root
    }

    /// Two domains of two classes.
    fn usual() -> Self {
        Self::new("Mine", &["Art", "Clipart"], "", &["Bed", "Bike"])
    }

    fn image(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(2, 2, image::Rgb([1, 2, 3])).save(path).unwrap();
    }

    fn file(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"\0\x05\x16\x07").unwrap();
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(self.name).join(path)
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn request(&self) -> DatasetRequest {
        DatasetRequest::named(self.name)
    }

    fn read(&self) -> Result<Discovered, DataError> {
        read(self.root(), &self.request())?.sound()
    }

    /// What it is refused with, in one line; a trial with what was found would be refused as well.
    fn refusal(&self, request: &DatasetRequest) -> String {
        let found = read(self.root(), request);
        if let Ok(Discovered { spec, fault: Some(_), .. }) = &found
            && spec.domains.len() > 1
            && spec.domains.iter().all(|domain| !domain.contains('+'))
        {
            assert!(DatasetFolder::scan(self.root(), spec).is_err());
        }
        let refusal = found.and_then(Discovered::sound).unwrap_err().to_string();
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
        refusal
    }
}

fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn digest(folder: DatasetFolder, root: &Path) -> String {
    Images::open(folder, &root.join("cache"), None, &NoProgress).unwrap().digest().to_owned()
}

#[test]
fn what_systems_and_programs_leave_is_ignored_and_counted() {
    let clean = Root::usual();
    let clean_digest = digest(clean.read().unwrap().folder, clean.root());
    let root = Root::usual();
    for file in [
        ".DS_Store",
        "Art/.DS_Store",
        "Art/Bed/.DS_Store",
        "Art/Bed/Thumbs.db",
        "Art/desktop.ini",
        "Art/Bed/._0.png",
        "__MACOSX/Art/Bed/._0.png",
        "Art/.ipynb_checkpoints/x.png",
        "Art/Bed/.ipynb_checkpoints/0-checkpoint.png",
        "Art/Bed/@eaDir/0.png",
        "lost+found/x",
        ".git/config",
        "Clipart/Bike/notes.TXT",
        "Art.txt",
    ] {
        root.file(file);
    }
    fs::create_dir(root.path(".ipynb_checkpoints")).unwrap();
    let found = root.read().unwrap();
    assert_eq!(
        found.ignored.to_string(),
        "3 .DS_Store, 1 ._*, 3 .ipynb_checkpoints, 2 .txt, 1 @eaDir, 1 Thumbs.db, 1 __MACOSX, 1 desktop.ini, 1 hidden, 1 lost+found"
    );
    assert_eq!(
        (&found.spec.domains, &found.spec.classes),
        (&list(&["Art", "Clipart"]).unwrap(), &list(&["Bed", "Bike"]).unwrap())
    );
    let scanned = DatasetFolder::scan(root.root(), &found.spec).unwrap();
    assert_eq!(scanned.domains, found.folder.domains);
    assert_eq!(digest(scanned, root.root()), clean_digest);
    let report = check(root.read().unwrap(), &NoProgress).unwrap();
    assert!(report.is_sound() && report.ignored == found.ignored && report.n == 12, "{report:?}");
    assert_eq!(report.digest.unwrap(), clean_digest);
}

#[test]
fn a_class_that_one_domain_lacks_is_refused_by_name_or_allowed() {
    let root = Root::new("blood", &["Acevedo", "INT20", "Matek"], "", &["lymphocyte", "myeloblast"]);
    fs::remove_dir_all(root.path("Acevedo/myeloblast")).unwrap();
    let refusal = root.refusal(&root.request());
    assert!(
        refusal.contains(
            "blood/Acevedo/myeloblast: the class is missing in this domain; missing_classes = \"allow\" under [data]"
        ),
        "{refusal}"
    );
    let listed = DatasetRequest {
        domains: list(&["Matek", "INT20", "Acevedo"]),
        classes: list(&["lymphocyte", "myeloblast"]),
        ..root.request()
    };
    assert_eq!(root.refusal(&listed), refusal);
    // A folder without an image is no class either.
    fs::create_dir(root.path("Acevedo/myeloblast")).unwrap();
    assert!(root.refusal(&root.request()).contains("Acevedo/myeloblast: the class has no image"));
    fs::remove_dir_all(root.path("INT20/lymphocyte")).unwrap();
    assert!(root.refusal(&root.request()).contains("(so are INT20/lymphocyte)"));

    let allowed = DatasetRequest { missing_classes: MissingClasses::Allow, ..root.request() };
    let found = read(root.root(), &allowed).unwrap().sound().unwrap();
    assert_eq!(found.missing, ["Acevedo/myeloblast", "INT20/lymphocyte"]);
    let scanned = DatasetFolder::scan(root.root(), &found.spec).unwrap();
    assert_eq!(scanned.domains, found.folder.domains);
    // Labels count all classes of the dataset.
    assert_eq!(scanned.domains.iter().map(|files| files[0].label).collect::<Vec<_>>(), [0, 1, 0]);
    let report = check(found, &NoProgress).unwrap();
    assert!(report.is_sound() && report.missing.len() == 2);
    fs::remove_dir_all(root.path("Acevedo/lymphocyte")).unwrap();
    assert!(root.refusal(&allowed).contains("blood/Acevedo: the domain has no image"));
}

#[test]
fn a_folder_that_is_no_domain_is_refused_unless_the_domains_are_listed() {
    let root = Root::new("nico", &["Art", "Clipart", "Product"], "", &["Bed", "Bike"]);
    root.file("Art.txt");
    for image in 0..3 {
        root.image(&format!("public_test_flat/{image}.png"));
    }
    let refusal = root.refusal(&root.request());
    assert!(
        refusal.contains("nico/public_test_flat: it holds no folders of classes (3 images in no class)")
            && refusal.contains("domains = [\"Art\", \"Clipart\", \"Product\"]"),
        "{refusal}"
    );
    let listed = DatasetRequest { domains: list(&["Product", "Clipart", "Art"]), ..root.request() };
    let found = read(root.root(), &listed).unwrap().sound().unwrap();
    assert_eq!(found.ignored.to_string(), "1 .txt, 1 public_test_flat/");
    assert_eq!(found.spec.domains, list(&["Art", "Clipart", "Product"]).unwrap());
    fs::remove_dir_all(root.path("public_test_flat")).unwrap();
    fs::create_dir(root.path("empty")).unwrap();
    assert!(root.refusal(&root.request()).contains("nico/empty: it is empty, so it is no domain"));
}

#[test]
fn a_level_too_many_is_named_and_its_layout_reads_the_images() {
    let office = Root::new("office31", &["amazon", "dslr", "webcam"], "images/", &["back_pack", "bike"]);
    // As packed by older benchmarks, under a name of the catalogue.
    let vlcs = Root::new("VLCS", &["CALTECH", "LABELME", "PASCAL", "SUN"], "full/", &["0", "1"]);
    for part in ["crossval", "test", "train"] {
        for domain in ["CALTECH", "LABELME", "PASCAL", "SUN"] {
            for class in ["0", "1"] {
                vlcs.image(&format!("{domain}/{part}/{class}/{part}.png"));
            }
        }
    }
    for (root, part, first, beside) in [
        (office, "images", "amazon/images/back_pack/0.png", ""),
        (vlcs, "full", "CALTECH/full/0/0.png", "4 crossval/, 4 test/, 4 train/"),
    ] {
        let layout = format!("{{domain}}/{part}/{{class}}");
        let refusal = root.refusal(&root.request());
        assert!(refusal.contains(&format!("write layout = \"{layout}\" under [data]")), "{refusal}");
        let request = DatasetRequest {
            layout: Some(layout.parse().unwrap()),
            domains: None,
            classes: None,
            ..root.request()
        };
        let found = read(root.root(), &request).unwrap().sound().unwrap();
        assert_eq!(
            (found.folder.domains[0][0].name.as_str(), found.ignored.to_string().as_str()),
            (first, beside)
        );
        let scanned = DatasetFolder::scan(root.root(), &found.spec).unwrap();
        assert_eq!(scanned.domains, found.folder.domains);
        assert!(scanned.domains.iter().all(|files| files.len() == 6));
        // The same names at the usual level are another dataset that is not there.
        let listed = DatasetRequest {
            domains: Some(found.spec.domains.clone()),
            classes: Some(found.spec.classes.clone()),
            layout: None,
            ..root.request()
        };
        assert_eq!(root.refusal(&listed), refusal);
    }
}

#[test]
fn folders_of_classes_that_look_like_parts_are_read_where_the_layout_says_so() {
    let root = Root::new("parts", &["a", "b"], "", &["train/x", "train/y", "test/x", "test/y"]);
    assert!(root.refusal(&root.request()).contains("or \"{domain}/{class}\" if test, train are the classes"));
    let request = DatasetRequest { layout: Some("{domain}/{class}".parse().unwrap()), ..root.request() };
    assert_eq!(read(root.root(), &request).unwrap().sound().unwrap().spec.classes, ["test", "train"]);
    // Folders below classes are read as torchvision does, as ever.
    let root = Root::new("videos", &["a", "b"], "", &["run/1", "run/2", "walk/3", "walk/4"]);
    assert_eq!(root.read().unwrap().spec.classes, ["run", "walk"]);
}

#[test]
fn a_split_that_the_dataset_forbids_is_refused_before_any_trial() {
    let root = Root::usual();
    fs::write(root.path("dataset.toml"), "group = \"stem\"\n").unwrap();
    assert_eq!(root.read().unwrap().spec.split_by, SplitBy::Stem);
    let by_image = DatasetRequest { split_by: Some(SplitBy::Image), ..root.request() };
    assert!(root.refusal(&by_image).contains("dataset.toml: it says group = \"stem\""));
}

#[test]
fn names_are_as_they_are_on_disk() {
    let domains = ["Art", "Clipart", "Product", "RealWorld"];
    let root = Root::new("OfficeHome", &domains, "", &["Bed", "Bike"]);
    assert_eq!(root.read().unwrap().spec.domains, domains);
    let catalogue = read(root.root(), &DatasetRequest::named("office_home")).unwrap_err().to_string();
    assert!(
        catalogue.contains("office_home: the dataset's folder is missing; there is OfficeHome"),
        "{catalogue}"
    );
    let spaced = DatasetRequest { domains: list(&["Art", "Real World"]), ..root.request() };
    let refusal = root.refusal(&spaced);
    assert!(
        refusal.contains(
            "Real World: the domain's folder is missing; there are Art, Clipart, Product, RealWorld"
        ),
        "{refusal}"
    );
}

#[test]
fn a_plus_is_read_in_names_of_datasets_and_classes_and_refused_in_those_of_domains() {
    let root = Root::new("NICO++", &["autumn", "dim grass"], "", &["hot air balloon", "C++"]);
    assert_eq!(root.read().unwrap().spec.classes, ["C++", "hot air balloon"]);
    root.image("rock+water/C++/0.png");
    root.image("rock+water/hot air balloon/0.png");
    let refusal = root.refusal(&root.request());
    assert!(
        refusal.contains("\"rock+water\"")
            && refusal.contains("rename the folder, for example to \"rock_water\""),
        "{refusal}"
    );
    let listed = DatasetRequest { domains: list(&["autumn", "dim grass"]), ..root.request() };
    assert_eq!(read(root.root(), &listed).unwrap().sound().unwrap().ignored.to_string(), "1 rock+water/");
}

#[test]
fn folders_at_the_wrong_place_are_described() {
    let root = Root::new("one", &["Art"], "", &["Bed", "Bike"]);
    let refusal = root.refusal(&root.request());
    assert!(refusal.contains("found only one of the domains (Art) and 2 classes (Bed, Bike)"), "{refusal}");
    let root = Root::new("packed", &["v1/Art", "v1/Clipart"], "", &["Bed", "Bike"]);
    assert!(root.refusal(&root.request()).contains("layout = \"v1/{domain}/{class}\""));
    let root = Root::new("flat", &["Bed", "Bike"], "", &["."]);
    assert!(root.refusal(&root.request()).contains("without a level of domains"));
}
