# The cluster's DNS. The context is the folder with the built programs.
FROM scratch
COPY coredns /coredns
USER 65532:65532
ENTRYPOINT ["/coredns"]
