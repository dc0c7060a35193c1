"""Terms of the standard by kind of object (PS3.3).

Each vocabulary is an `enum.StrEnum` whose members are the values as a data set has them, so
they compare with text and go into a data set as they are.  `parse` takes what a data set says,
with padding, and tells what is no term: most of these are *defined terms*, beside which there may
be others.
"""
