"""Modality performed procedure step (PS3.4 Annex F): what a modality says that it did.

`requirements` has Table F.7.2-1, `step` what a step is and what may become of it, `service`
the SCP, `client` the SCU.  Where steps are kept is behind `step.Steps`.
"""
