// What a machine of the lab can't do as a host of its own could, as lines of a kubelet's and a kube-proxy's configuration.

/** Control groups of version 1 without systemd's slices, no right to lower an OOM score, a disk whose fill is the control machine's. */
export const kubeletInLab = `# A machine of the lab:
cgroupDriver: cgroupfs
failCgroupV1: false
oomScoreAdj: 0
evictionHard:
  memory.available: 50Mi
  nodefs.available: 0%
  imagefs.available: 0%
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
`

/** The limits of connection tracking are the control machine's. */
export const proxyInLab = `# A machine of the lab:
oomScoreAdj: 0
conntrack:
  maxPerCore: 0
  min: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
`
