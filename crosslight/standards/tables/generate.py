"""Makes ``dicom_codes.py`` from pydicom's copy of PS3.16.

Run by hand: ``python -m crosslight.standards.tables.generate``.

The choice of BodyPartExamined terms (PS3.16 Annex L) and which concept of CID 4 each stands for is made here
by hand; codes and meanings are pydicom's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: BodyPartExamined (0018,0015) defined term -> pydicom's keyword of the SNOMED CT concept.
BODY_PARTS = {
    "ABDOMEN": "Abdomen",
    "ABDOMENPELVIS": "AbdomenAndPelvis",
    "ADRENAL": "AdrenalGland",
    "ANKLE": "AnkleJoint",
    "AORTA": "Aorta",
    "BACK": "Back",
    "BLADDER": "Bladder",
    "BRAIN": "Brain",
    "BREAST": "Breast",
    "BUTTOCK": "Buttock",
    "CALCANEUS": "Calcaneus",
    "CAROTID": "CarotidArtery",
    "CHEST": "Chest",
    "CHESTABDOMEN": "ChestAndAbdomen",
    "CHESTABDPELVIS": "ChestAbdomenAndPelvis",
    "CLAVICLE": "Clavicle",
    "COCCYX": "Coccyx",
    "COLON": "Colon",
    "CSPINE": "CervicalSpine",
    "DUODENUM": "Duodenum",
    "EAR": "Ear",
    "ELBOW": "ElbowJoint",
    "ESOPHAGUS": "Esophagus",
    "EXTREMITY": "Extremity",
    "EYE": "Eye",
    "FACE": "Face",
    "FEMUR": "Femur",
    "FIBULA": "Fibula",
    "FINGER": "Finger",
    "FOOT": "Foot",
    "FOREARM": "Forearm",
    "GALLBLADDER": "Gallbladder",
    "HAND": "Hand",
    "HEAD": "Head",
    "HEADNECK": "HeadAndNeck",
    "HEART": "Heart",
    "HIP": "HipJoint",
    "HUMERUS": "Humerus",
    "ILIUM": "Ilium",
    "JAW": "JawRegion",
    "KIDNEY": "Kidney",
    "KNEE": "Knee",
    "LARYNX": "Larynx",
    "LEG": "LowerLeg",
    "LIVER": "Liver",
    "LSPINE": "LumbarSpine",
    "LSSPINE": "LumboSacralSpine",
    "LUNG": "Lung",
    "MAXILLA": "Maxilla",
    "MEDIASTINUM": "Mediastinum",
    "MOUTH": "Mouth",
    "NECK": "Neck",
    "NECKCHEST": "NeckAndChest",
    "NECKCHESTABDOMEN": "NeckChestAndAbdomen",
    "NECKCHESTABDPELV": "NeckChestAbdomenAndPelvis",
    "NOSE": "Nose",
    "ORBIT": "OrbitalStructure",
    "OVARY": "Ovary",
    "PANCREAS": "Pancreas",
    "PAROTID": "ParotidGland",
    "PATELLA": "Patella",
    "PELVIS": "Pelvis",
    "PENIS": "Penis",
    "PHARYNX": "Pharynx",
    "PROSTATE": "Prostate",
    "RIB": "Rib",
    "SCALP": "Scalp",
    "SCAPULA": "Scapula",
    "SCLERA": "Sclera",
    "SCROTUM": "Scrotum",
    "SHOULDER": "Shoulder",
    "SKULL": "Skull",
    "SPINE": "Spine",
    "SPLEEN": "Spleen",
    "SSPINE": "Sacrum",
    "STERNUM": "Sternum",
    "STOMACH": "Stomach",
    "TESTIS": "Testis",
    "THIGH": "Thigh",
    "THUMB": "Thumb",
    "THYMUS": "Thymus",
    "THYROID": "Thyroid",
    "TIBIA": "Tibia",
    "TLSPINE": "ThoracoLumbarSpine",
    "TMJ": "TemporomandibularJoint",
    "TOE": "Toe",
    "TONGUE": "Tongue",
    "TRACHEA": "Trachea",
    "TSPINE": "ThoracicSpine",
    "UTERUS": "Uterus",
    "WHOLEBODY": "EntireBody",
    "WRIST": "WristJoint",
    "ZYGOMA": "Zygoma",
}


def _rows(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"    {value},\n" for value in (f'"{key}": {text}' for key, text in pairs))


def generate() -> str:
    """The text of ``dicom_codes.py``."""
    import pydicom
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts

    table: Any = concepts
    modalities: dict[str, str] = {}
    for cid in (29, 33):
        for keyword in cid_concepts[cid]["DCM"]:
            for code, (meaning, cids) in table["DCM"][keyword].items():
                if cid in cids:
                    modalities[code] = meaning
    sites = []
    for term, keyword in sorted(BODY_PARTS.items()):
        concepts = table["SCT"].get(keyword)
        if concepts is None:
            raise LookupError(keyword)
        code, (meaning, _) = next(iter(concepts.items()))
        sites.append((term, f'("{code}", "{meaning}")'))
    return (
        f'"""Made by ``generate.py`` from pydicom {pydicom.__version__} (PS3.16): do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        "#: Modality (0008,0060) -> meaning: CID 29 Acquisition Modality and CID 33 Modality.\n"
        "MODALITIES: dict[str, str] ="
        f" {{\n{_rows([(c, f'{chr(34)}{m}{chr(34)}') for c, m in sorted(modalities.items())])}}}\n\n"
        "#: BodyPartExamined (0018,0015) defined term (Annex L) -> SNOMED CT code and meaning (CID 4).\n"
        f"BODY_SITES: dict[str, tuple[str, str]] = {{\n{_rows(sites)}}}\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("dicom_codes.py").write_text(generate(), encoding="utf-8")
