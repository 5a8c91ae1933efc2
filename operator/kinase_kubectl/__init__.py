"""The commands for experiments on a cluster: `kinase get`, `logs`, `report`, ..., and the same as
`kubectl kinase`. They act with the user's own rights, and need nothing of Kinase but its kinds."""
