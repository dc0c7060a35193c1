"""Storage commitment push model (PS3.4 Annex J): a promise that objects are kept.

`transaction` has the values and the port behind which transactions are kept, `verifying`
what is looked at before the promise, `service` the SCP, `client` the SCU.
"""
