"""Validation of objects against their IODs (PS3.3): a data set in, findings out.

* `validation`: what is judged, in which order;
* `table`: SOP classes, IODs, modules, attributes, conditions and values, as data;
* `items`: a data set as it is judged; `findings`: what comes of it;
* `attributes`, `conditions`, `functional_groups`, `coded_entries`, `element_rules`: the rules.
* `named_checks`: what goes beyond the tables, for eighteen kinds of objects;
* `reports`: findings for programs, as JSON and SARIF.
"""
