"""Order messages as senders write them; all patients are invented."""

from __future__ import annotations

#: After IHE RAD TF-2 4.4 (RAD-4), HL7 2.3.1.
ORM = """\
MSH|^~\\&|RIS|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||ORM^O01|MSG0001|P|2.3.1
PID|1||PAT4711^^^HOSPITAL^PI||Muster&von^Erika^Anna^Jr^Dr^PhD||19700131|F||||||||||ACC99
PV1|1|I|WARD3^12^A||||||||||||B6||||V100^^^HOSPITAL
AL1|1|DA|PENI^Penicillin
AL1|2|DA|^Latex
ORC|NW|PLC1^RIS|FIL1^DSS||SC||^^^20261124093000^^S|||||1234^Overby^Otto^^^Dr|||||RAD^Radiology
OBR|1|PLC1^RIS|FIL1^DSS|CTCH^CT chest^L^P1^Chest with contrast^L||||||||^Walks|Pacemaker|||\
1234^Overby^Otto^^^Dr||A1001|RP1|SPS1|CT_01|||CT|||^^^20261124093000^^S||||^Cough for weeks|||\
7&Tech&Tina||||||||||71260^CT thorax^CPT
NTE|1||Please call\\.br\\before 9 \\T\\ after 10
OBX|1|NM|29463-7^Body weight^LN||70.5|kg
OBX|2|NM|8302-2^Body height^LN||172|cm
ZDS|1.2.276.0.99.4711^RIS^Application^DICOM
""".replace("\n", "\r")

#: After the same, HL7 2.5.1: two steps of one requested procedure.
OMI = """\
MSH|^~\\&|RIS|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||OMI^O23^OMI_O23|MSG0002|P|2.5.1|\
|||||UNICODE UTF-8
PID|1||PAT4712^^^HOSPITAL^PI||Müller^Jürgen||19651224|M
PV1|1|O||||||9^Weiß^Wanda
ORC|NW|PLC2|FIL2||SC
TQ1|1||||||20261124101500||R
OBR|1|PLC2|FIL2|MRHE^MR head^L
IPC|A1002|RP2|1.2.276.0.99.4712|SPS2|MR|MRH1^Head native^L|MAGNET1|R2^Room 2|MR_01
IPC|A1002|RP2|1.2.276.0.99.4712|SPS3|MR|MRH2^Head contrast^L|MAGNET1|R2^Room 2|MR_01
""".replace("\n", "\r")


def changed(message: str, segment: str, field: int, value: str) -> str:
    """*message* with another value of a field in each *segment*."""
    lines = message.split("\r")
    for index, line in enumerate(lines):
        if line[:3] == segment:
            fields = line.split("|")
            position = field - 1 if segment == "MSH" else field
            fields += [""] * (position + 1 - len(fields))
            fields[position] = value
            lines[index] = "|".join(fields)
    return "\r".join(lines)


def without(message: str, segment: str) -> str:
    return "\r".join(line for line in message.split("\r") if line[:3] != segment)
