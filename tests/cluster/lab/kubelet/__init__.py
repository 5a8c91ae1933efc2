"""A stand-in for the kubelet, for machines that can run no containers.

It registers a Node, keeps it alive, and runs the container of each Pod bound to it as a process
of this machine: with the Pod's environment and volumes, an address of its own, and a status that
says what a kubelet would say. What it leaves out is isolation: no file system of the container's
own (paths in the Pod's strings are rewritten to folders of the Pod), no limits, no users.

    python -m tests.cluster.lab.kubelet --kubeconfig FILE --name NODE --root FOLDER
"""
