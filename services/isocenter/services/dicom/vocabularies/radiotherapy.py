"""Vocabularies of radiotherapy: plans, doses, structures and images (PS3.3 C.8.8)."""

from __future__ import annotations

from isocenter.services.dicom.vocabularies.terms import Term


class PlanIntent(Term):
    """Plan Intent (300A,000A) (C.8.8.9)."""

    CURATIVE = "CURATIVE"
    PALLIATIVE = "PALLIATIVE"
    PROPHYLACTIC = "PROPHYLACTIC"
    VERIFICATION = "VERIFICATION"
    MACHINE_QA = "MACHINE_QA"
    RESEARCH = "RESEARCH"
    SERVICE = "SERVICE"


class PlanGeometry(Term):
    """RT Plan Geometry (300A,000C) (C.8.8.9)."""

    PATIENT = "PATIENT"
    TREATMENT_DEVICE = "TREATMENT_DEVICE"


class DoseUnits(Term):
    """Dose Units (3004,0002) (C.8.8.3)."""

    GRAY = "GY"
    RELATIVE = "RELATIVE"


class DoseType(Term):
    """Dose Type (3004,0004) (C.8.8.3)."""

    PHYSICAL = "PHYSICAL"
    EFFECTIVE = "EFFECTIVE"
    ERROR = "ERROR"


class DoseSummation(Term):
    """Dose Summation Type (3004,000A) (C.8.8.3)."""

    PLAN = "PLAN"
    MULTI_PLAN = "MULTI_PLAN"
    PLAN_OVERVIEW = "PLAN_OVERVIEW"
    FRACTION = "FRACTION"
    BEAM = "BEAM"
    BRACHY = "BRACHY"
    FRACTION_SESSION = "FRACTION_SESSION"
    BEAM_SESSION = "BEAM_SESSION"
    BRACHY_SESSION = "BRACHY_SESSION"
    CONTROL_POINT = "CONTROL_POINT"
    RECORD = "RECORD"


class RoiType(Term):
    """RT ROI Interpreted Type (3006,00A4) (C.8.8.8)."""

    EXTERNAL = "EXTERNAL"
    PTV = "PTV"
    CTV = "CTV"
    GTV = "GTV"
    TREATED_VOLUME = "TREATED_VOLUME"
    IRRADIATED_VOLUME = "IRRAD_VOLUME"
    BOLUS = "BOLUS"
    AVOIDANCE = "AVOIDANCE"
    ORGAN = "ORGAN"
    MARKER = "MARKER"
    REGISTRATION = "REGISTRATION"
    ISOCENTER = "ISOCENTER"
    CONTRAST_AGENT = "CONTRAST_AGENT"
    CAVITY = "CAVITY"
    BRACHY_CHANNEL = "BRACHY_CHANNEL"
    BRACHY_ACCESSORY = "BRACHY_ACCESSORY"
    BRACHY_SOURCE_APPLICATOR = "BRACHY_SRC_APP"
    BRACHY_CHANNEL_SHIELD = "BRACHY_CHNL_SHLD"
    SUPPORT = "SUPPORT"
    FIXATION = "FIXATION"
    DOSE_REGION = "DOSE_REGION"
    CONTROL = "CONTROL"
    DOSE_MEASUREMENT = "DOSE_MEASUREMENT"

    @property
    def is_target(self) -> bool:
        """Whether it is a volume that is to be treated."""
        return self in (RoiType.PTV, RoiType.CTV, RoiType.GTV)


class RoiGeneration(Term):
    """ROI Generation Algorithm (3006,0036) (C.8.8.5)."""

    AUTOMATIC = "AUTOMATIC"
    SEMIAUTOMATIC = "SEMIAUTOMATIC"
    MANUAL = "MANUAL"


class BeamType(Term):
    """Beam Type (300A,00C4) (C.8.8.14)."""

    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"


class RadiationType(Term):
    """Radiation Type (300A,00C6) (C.8.8.14)."""

    PHOTON = "PHOTON"
    ELECTRON = "ELECTRON"
    NEUTRON = "NEUTRON"
    PROTON = "PROTON"


class TreatmentDelivery(Term):
    """Treatment Delivery Type (300A,00CE) (C.8.8.14)."""

    TREATMENT = "TREATMENT"
    OPEN_PORTFILM = "OPEN_PORTFILM"
    TREATMENT_PORTFILM = "TRMT_PORTFILM"
    CONTINUATION = "CONTINUATION"
    SETUP = "SETUP"


class ImagePlane(Term):
    """RT Image Plane (3002,000C) (C.8.8.2)."""

    NORMAL = "NORMAL"
    NON_NORMAL = "NON_NORMAL"
