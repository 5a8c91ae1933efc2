"""The commands for experiments on a cluster: `kinase get`, `logs`, `report`, ..., and the same as
`kubectl kinase`. They act with the user's permissions, and need only Kinase's CRDs on the
cluster."""
