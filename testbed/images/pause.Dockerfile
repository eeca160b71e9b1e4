# What holds a pod's namespaces open. The context is a folder with a static busybox.
FROM scratch
COPY busybox /bin/busybox
ENTRYPOINT ["/bin/busybox", "sleep", "2147483647"]
