"""What is known of the eighteen MedMNIST sets: the facts, the hashes and the known faults.

Facts and hashes are those of the makers (MedMNIST v2, Zenodo record 10519652); each fault names
where it is shown. A fault that says "not stated" or "cannot be excluded" follows from how the
makers describe the split.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MD5", "RECORD", "SETS", "MedMNISTSet"]

RECORD = "https://zenodo.org/records/10519652/files"


@dataclass(frozen=True, kw_only=True)
class MedMNISTSet:
    """Facts of one set.

    Attributes:
        title: one line for a reader.
        task: as in `DataCard`.
        classes: names; position = label.
        modality: how the images were made.
        samples: images in the official train, val and test part.
        about: what was imaged, in whom, how labelled.
        source: the original data, with DOI.
        channels: 1 grey, 3 colour.
        volume: True for the 3-D sets.
        licence: SPDX-like name.
        faults: known faults, each with its source.
    """

    title: str
    task: str
    classes: tuple[str, ...]
    modality: str
    samples: tuple[int, int, int]
    about: str
    source: str
    channels: int = 1
    volume: bool = False
    licence: str = "CC BY 4.0"
    faults: tuple[str, ...] = ()


_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
_ORGAN_SOURCE = (
    "LiTS: Bilic et al., Med Image Anal 84:102680 (2023), doi 10.1016/j.media.2022.102680; organ "
    "boxes: Xu et al., IEEE TMI 38:1885 (2019), doi 10.1109/TMI.2019.2894854"
)
_ORGAN_FAULTS = (
    "All four Organ sets come from the same 201 CT scans: never train on one and test on another "
    "(makers' description).",
    "Several images come from one scan, and scan ids are not in the file, so intervals by patient "
    "cannot be computed (makers' description).",
)


def _organ(view: str, samples: tuple[int, int, int]) -> MedMNISTSet:
    return MedMNISTSet(
        title=f"OrganMNIST: which organ, {view} CT slices",
        task="multiclass",
        classes=_ORGANS,
        modality="CT",
        samples=samples,
        about=(
            f"Abdominal CT, {view} slices through the middle of the bounding box of each of 11 "
            "organs, in an abdominal window, cropped to the box. Split by scan: 115, 16 and 70."
        ),
        source=_ORGAN_SOURCE,
        faults=_ORGAN_FAULTS,
    )


SETS: dict[str, MedMNISTSet] = {
    "pathmnist": MedMNISTSet(
        title="PathMNIST: tissue types in colorectal histology",
        task="multiclass",
        classes=(
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        modality="histology (haematoxylin & eosin)",
        samples=(89996, 10004, 7180),
        channels=3,
        about=(
            "Patches of stained colorectal tissue (NCT-CRC-HE-100K), nine tissue types. The test "
            "part (CRC-VAL-HE-7K) comes from another centre; validation is a tenth of the training "
            "patches."
        ),
        source="Kather et al., PLoS Med 16:e1002730 (2019), doi 10.1371/journal.pmed.1002730",
        faults=(
            "Colour normalisation, JPEG artefacts that differ between classes and damaged patches "
            "give classes away: mean red, green and blue alone reach over 50 % accuracy (Ignatov & "
            "Malivenko 2024, arXiv:2409.11546).",
            "Validation patches are drawn from the training patches, so one patient's tissue can "
            "stand in both; only the test part is another centre (makers' description).",
        ),
    ),
    "chestmnist": MedMNISTSet(
        title="ChestMNIST: fourteen findings in chest X-rays",
        task="multilabel",
        classes=(
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        modality="X-ray",
        samples=(78468, 11219, 22433),
        about=(
            "112,120 frontal chest X-rays of 30,805 patients (NIH ChestX-ray14); fourteen labels "
            "mined from the radiology reports by a program. An image may carry several or none."
        ),
        source="Wang et al., CVPR 2017, doi 10.1109/CVPR.2017.369",
        faults=(
            "Labels were mined from report text; a radiologist who looked at the images often "
            "disagreed, and labels mix clinically different things (Oakden-Rayner 2020, doi "
            "10.1016/j.acra.2019.10.006).",
            "Patients have several images each and their ids are not in the file, so intervals by "
            "patient cannot be computed (112,120 images of 30,805 patients).",
        ),
    ),
    "dermamnist": MedMNISTSet(
        title="DermaMNIST: pigmented skin lesions",
        task="multiclass",
        classes=(
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        modality="dermatoscopy",
        samples=(7007, 1003, 2005),
        channels=3,
        licence="CC BY-NC 4.0",
        about=(
            "10,015 dermatoscopic images of pigmented lesions (HAM10000) in seven diagnoses, split "
            "7:1:2 by image."
        ),
        source="Tschandl et al., Sci Data 5:180161 (2018), doi 10.1038/sdata.2018.161",
        faults=(
            "The split is by image, while many lesions were photographed more than once: images of "
            "one lesion stand in training and test, which flatters every score (Abhishek et al. "
            "2025, doi 10.1038/s41597-025-04382-5, who offer a corrected split).",
            "The source holds further duplicates that its lesion ids do not show (Abhishek et al. "
            "2025).",
        ),
    ),
    "octmnist": MedMNISTSet(
        title="OCTMNIST: retinal disease in optical coherence tomography",
        task="multiclass",
        classes=(
            "choroidal neovascularization",
            "diabetic macular edema",
            "drusen",
            "normal",
        ),
        modality="optical coherence tomography",
        samples=(97477, 10832, 1000),
        about=(
            "109,309 OCT slices of adult retinas in four diagnoses, centre-cropped. Validation is "
            "a tenth of the source's training part; test is the source's own 250 slices a class."
        ),
        source="Kermany et al., Cell 172:1122 (2018), doi 10.1016/j.cell.2018.02.010",
        faults=(
            "Many slices are neighbours from one eye, and splitting them at random inflates "
            "accuracy by 5 to 30 points on such data, this set included (Tampu et al. 2022, doi "
            "10.1038/s41597-022-01618-6). Validation was cut from training without patient ids.",
            "Training classes are very unequal, test classes equal, so accuracies of the two do "
            "not compare (Kermany et al. 2018).",
        ),
    ),
    "pneumoniamnist": MedMNISTSet(
        title="PneumoniaMNIST: pneumonia in children's chest X-rays",
        task="binary",
        classes=("normal", "pneumonia"),
        modality="X-ray",
        samples=(4708, 524, 624),
        about=(
            "5,856 chest X-rays of children aged one to five from one hospital (Guangzhou Women "
            "and Children's Medical Center), centre-cropped; graded by physicians. Validation is a "
            "tenth of the source's training part; test is the source's own."
        ),
        source="Kermany et al., Cell 172:1122 (2018), doi 10.1016/j.cell.2018.02.010",
        faults=(
            "Eight images stand in training and validation alike, pixel for pixel (exact "
            "comparison of the 28-pixel file; `cohort.leaks()` lists them).",
            "Validation was cut from training (9:1, no patient ids), while the test part is the "
            "source's own: expect validation scores above test scores (makers' description).",
            "Children of one hospital: nothing here speaks for adults or other hospitals (Kermany "
            "et al. 2018).",
        ),
    ),
    "retinamnist": MedMNISTSet(
        title="RetinaMNIST: grades of diabetic retinopathy",
        task="ordinal",
        classes=("no retinopathy", "mild", "moderate", "severe", "proliferative"),
        modality="fundus photography",
        samples=(1080, 120, 400),
        channels=3,
        about=(
            "1,600 fundus photographs (DeepDRiD) with five ordered grades of diabetic retinopathy, "
            "0 to 4, centre-cropped. Validation is a tenth of the source's training part; test is "
            "the source's validation part."
        ),
        source="Liu et al., Patterns 3:100512 (2022), doi 10.1016/j.patter.2022.100512",
        faults=(
            "The source has 2,000 such photographs of 500 patients, several views an eye; ids are "
            "not in the file, so patients shared by training and validation cannot be excluded "
            "(Liu et al. 2022; makers' description).",
        ),
    ),
    "breastmnist": MedMNISTSet(
        title="BreastMNIST: malignancy in breast ultrasound",
        task="binary",
        classes=("malignant", "normal, benign"),
        modality="ultrasound",
        samples=(546, 78, 156),
        about=(
            "780 breast ultrasound images (BUSI). Normal and benign are one class; split 7:1:2 by "
            "image."
        ),
        source="Al-Dhabyani et al., Data in Brief 28:104863 (2020), doi 10.1016/j.dib.2019.104863",
        faults=(
            "Class 1 is the healthy side (normal, benign) and class 0 malignant: sensitivity and "
            "specificity swap places unless you say which you mean (makers' label table).",
            "The source holds duplicated images, pictures with drawn marks and pictures that show "
            "no breast; some duplicates carry contradicting labels (Pawłowska et al. 2023, doi "
            "10.1016/j.dib.2023.109247). A split by image cannot keep them apart.",
        ),
    ),
    "bloodmnist": MedMNISTSet(
        title="BloodMNIST: normal blood cells",
        task="multiclass",
        classes=(
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        modality="light microscopy",
        samples=(11959, 1712, 3421),
        channels=3,
        about=(
            "17,092 single cells from stained blood smears of people without infection, blood "
            "disease or cancer; eight cell types, split 7:1:2 by image."
        ),
        source="Acevedo et al., Data in Brief 30:105474 (2020), doi 10.1016/j.dib.2020.105474",
        faults=(
            "Split by image; person and smear ids are not in the file, so one person's cells in "
            "training and test cannot be excluded (makers' description).",
        ),
    ),
    "tissuemnist": MedMNISTSet(
        title="TissueMNIST: cell types of the kidney cortex",
        task="multiclass",
        classes=(
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        modality="fluorescence microscopy",
        samples=(165466, 23640, 47280),
        about=(
            "236,386 cells of human kidney cortex (BBBC051) from three tissue specimens, eight "
            "types; each the maximum over seven slices of 32×32 pixels; split 7:1:2 by cell."
        ),
        source=(
            "Woloshuk et al., Cytometry A 99:707 (2021), doi 10.1002/cyto.a.24274; BBBC051, Broad "
            "Bioimage Benchmark Collection, Ljosa et al. 2012, doi 10.1038/nmeth.2083"
        ),
        faults=(
            "Three specimens and a split by cell: every part holds the same three tissues, so test "
            "scores say nothing about a fourth (makers' description).",
            "The source images are 32×32 pixels: sizes 64 to 224 add no detail (makers' "
            "description).",
        ),
    ),
    "organamnist": _organ("axial", (34561, 6491, 17778)),
    "organcmnist": _organ("coronal", (12975, 2392, 8216)),
    "organsmnist": _organ("sagittal", (13932, 2452, 8827)),
    "organmnist3d": MedMNISTSet(
        title="OrganMNIST3D: which organ, CT volumes",
        task="multiclass",
        classes=(
            "liver",
            "kidney-right",
            "kidney-left",
            "femur-right",
            "femur-left",
            "bladder",
            "heart",
            "lung-right",
            "lung-left",
            "spleen",
            "pancreas",
        ),
        modality="CT",
        samples=(971, 161, 610),
        volume=True,
        about=(
            "The bounding boxes of 11 organs from the same CT scans as the 2-D Organ sets, as "
            "volumes. Split by scan: 115, 16 and 70."
        ),
        source=_ORGAN_SOURCE,
        faults=(
            "Classes are numbered differently from the 2-D Organ sets: label 0 is liver here and "
            "bladder there (makers' label tables).",
            *_ORGAN_FAULTS,
        ),
    ),
    "nodulemnist3d": MedMNISTSet(
        title="NoduleMNIST3D: lung nodules, benign or malignant looking",
        task="binary",
        classes=("benign", "malignant"),
        modality="CT",
        samples=(1158, 165, 310),
        volume=True,
        about=(
            "Lung nodules from chest CT (LIDC-IDRI) at 1 mm spacing, centre-cropped. Radiologists' "
            "malignancy ratings 1–2 are class 0, 4–5 class 1; rating 3 is left out."
        ),
        source="Armato et al., Med Phys 38:915 (2011), doi 10.1118/1.3528204",
        faults=(
            "The label is what radiologists thought, not what a biopsy showed, and doubtful "
            "nodules (rating 3) were removed, which makes the task easier than practice (makers' "
            "description).",
            "A patient may have several nodules; that the 7:1:2 split is by patient is not stated "
            "(makers' description).",
        ),
    ),
    "adrenalmnist3d": MedMNISTSet(
        title="AdrenalMNIST3D: shape of the adrenal gland",
        task="binary",
        classes=("normal", "hyperplasia"),
        modality="shape from CT",
        samples=(1188, 98, 298),
        volume=True,
        about=(
            "1,584 adrenal glands, left and right, of 792 patients of one hospital (Zhongshan "
            "Hospital, Shanghai): masks drawn on CT, no grey values. Split by patient."
        ),
        source="Yang et al., Sci Data 10:41 (2023), doi 10.1038/s41597-022-01721-8",
        faults=(
            "Volumes are masks, not CT: no tissue density can be learned (makers' description).",
            "Class 1 is called hyperplasia in the label table and adrenal mass in the description "
            "(makers' description).",
        ),
    ),
    "fracturemnist3d": MedMNISTSet(
        title="FractureMNIST3D: types of rib fracture",
        task="multiclass",
        classes=("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        modality="CT",
        samples=(1027, 103, 240),
        volume=True,
        about=(
            "Rib fractures from 660 chest CT scans (RibFrac), 64 mm cubes around each fracture, "
            "three types; segmental fractures left out. The challenge's own split."
        ),
        source="Jin et al., EBioMedicine 62:103106 (2020), doi 10.1016/j.ebiom.2020.103106",
        faults=(
            "Segmental fractures were removed because low resolution does not show them; the "
            "remaining types differ by details that 28 voxels hardly hold (makers' description).",
            "There is no healthy class, and several fractures come from one patient (about 5,000 "
            "in 660 scans; makers' description).",
        ),
    ),
    "vesselmnist3d": MedMNISTSet(
        title="VesselMNIST3D: brain vessel segments with and without aneurysm",
        task="binary",
        classes=("vessel", "aneurysm"),
        modality="shape from MR angiography",
        samples=(1335, 191, 382),
        volume=True,
        about=(
            "Segments of 103 surface models of brain vessels (IntrA), filled to voxels: shapes, no "
            "grey values; about one in nine has an aneurysm. Split 7:1:2."
        ),
        source="Yang X. et al., IntrA, CVPR 2020, arXiv:2003.02920",
        faults=(
            "All segments come from 103 models, and that the split keeps one brain's segments "
            "together is not stated (makers' description).",
        ),
    ),
    "synapsemnist3d": MedMNISTSet(
        title="SynapseMNIST3D: excitatory or inhibitory synapse",
        task="binary",
        classes=("inhibitory synapse", "excitatory synapse"),
        modality="electron microscopy",
        samples=(1230, 177, 352),
        volume=True,
        about=(
            "Cubes of 1,024 nm around synapses on one neuron of one adult rat, labelled by three "
            "neuroscientists. Split 7:1:2 at random."
        ),
        source="Yang et al., Sci Data 10:41 (2023), doi 10.1038/s41597-022-01721-8",
        faults=(
            "One neuron of one animal, split at random: test scores say nothing about another "
            "animal (makers' description).",
            "Source voxels measure 8×8×30 nm, the cubes are resampled to equal sides (makers' "
            "description).",
        ),
    ),
}

# name -> image size -> MD5 of the official file, as in Zenodo record 10519652.
MD5: dict[str, dict[int, str]] = {
    "pathmnist": {
        28: "a8b06965200029087d5bd730944a56c1",
        64: "55aa9c1e0525abe5a6b9d8343a507616",
        128: "ac42d08fb904d92c244187169d1fd1d9",
        224: "2c51a510bcdc9cf8ddb2af93af1eadec",
    },
    "chestmnist": {
        28: "02c8a6516a18b556561a56cbdd36c4a8",
        64: "9de6cd0b934ebb5b7426cfba5efbae16",
        128: "db107e5590b27930b62dbaf558aebee3",
        224: "45bd33e6f06c3e8cdb481c74a89152aa",
    },
    "dermamnist": {
        28: "0744692d530f8e62ec473284d019b0c7",
        64: "b70a2f5635c6199aeaa28c31d7202e1f",
        128: "2defd784463fa5243564e855ed717de1",
        224: "8974907d8e169bef5f5b96bc506ae45d",
    },
    "octmnist": {
        28: "c68d92d5b585d8d81f7112f81e2d0842",
        64: "e229e9440236b774d9f0dfef9d07bdaf",
        128: "0a97e76651ace45c5d943ee3f65b63ae",
        224: "abc493b6d529d5de7569faaef2773ba3",
    },
    "pneumoniamnist": {
        28: "28209eda62fecd6e6a2d98b1501bb15f",
        64: "8f4eceb4ccffa70c672198ea285246c6",
        128: "05b46931834c231683c68f40c47b2971",
        224: "d6a3c71de1b945ea11211b03746c1fe1",
    },
    "retinamnist": {
        28: "bd4c0672f1bba3e3a89f0e4e876791e4",
        64: "afda852cc34dcda56f86ad2b2457dbcc",
        128: "e48e916a24454daf90583d4e6efb1a18",
        224: "eae7e3b6f3fcbda4ae613ebdcbe35348",
    },
    "breastmnist": {
        28: "750601b1f35ba3300ea97c75c52ff8f6",
        64: "742edef2a1fd1524b2efff4bd7ba9364",
        128: "363e4b3f8d712e9b5de15470a2aaadf1",
        224: "b56378a6eefa9fed602bb16d192d4c8b",
    },
    "bloodmnist": {
        28: "7053d0359d879ad8a5505303e11de1dc",
        64: "2b94928a2ae4916078ca51e05b6b800b",
        128: "adace1e0ed228fccda1f39692059dd4c",
        224: "b718ff6835fcbdb22ba9eacccd7b2601",
    },
    "tissuemnist": {
        28: "ebe78ee8b05294063de985d821c1c34b",
        64: "123ece2eba09d0aa5d698fda57103344",
        128: "61b955355d7425a89687b06cca3ce0c2",
        224: "b077128c4a949f0a4eb01517f9037b9c",
    },
    "organamnist": {
        28: "68e3f8846a6bd62f0c9bf841c0d9eacc",
        64: "2dcccc29b88e6da5a01161ef20cda288",
        128: "eeae80d0a227a8d099027e1b3cfd3b60",
        224: "50747347e05c87dd3aaf92c49f9f3170",
    },
    "organcmnist": {
        28: "b9ceb9546e10131b32923c5bbeaea2b1",
        64: "3ce34a8724ea6f548e6db4744d03b6a9",
        128: "773c1f009daa3fe5d9a2a201b2a7ed94",
        224: "050f5e875dc056f6768abf94ec9995d1",
    },
    "organsmnist": {
        28: "9ab87b696fb54e2a387ebe992d6ed5f1",
        64: "53a6d115339d874c25e309a994ff46d3",
        128: "ded0c5fa01a95dc4978b956f613e9b8e",
        224: "b354719e553fbbb2513d5533f52a4cb1",
    },
    "organmnist3d": {
        28: "a0c5a1ff56af4f155c46d46fbb45a2fe",
        64: "58a2205adf14a9d0a189cb06dc78bf10",
    },
    "nodulemnist3d": {
        28: "8755a7e9e05a4d9ce80a24c3e7a256f3",
        64: "c47c5b7d457bf6332200d2ea6d64ecd8",
    },
    "adrenalmnist3d": {
        28: "bbd3c5a5576322bc4cdfea780653b1ce",
        64: "17721accfe9fb005146a47d33bc54b2f",
    },
    "fracturemnist3d": {
        28: "6aa7b0143a6b42da40027a9dda61302f",
        64: "f01d7e6316aedf4210da0da5b7437b42",
    },
    "vesselmnist3d": {
        28: "b41fd4f7e7e2feedddb201585ecafa1b",
        64: "6bb274a8846e1097066dcd64e2c4520f",
    },
    "synapsemnist3d": {
        28: "1235b78a3cd6280881dd7850a78eadb6",
        64: "43bd14ebf3af9d3dd072446fedc14d5e",
    },
}
