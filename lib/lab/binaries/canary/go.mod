// The lab's own workloads: what measures, from inside the cluster, what its users would have noticed.
module rekey.lab/canary

go 1.24
