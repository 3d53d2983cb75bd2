# The one image of our own: the four programs, static, and nothing else. No shell,
# no package manager, no user but the one that they run as.
FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ENV CGO_ENABLED=0
RUN go build -trimpath -ldflags '-s -w' -o /image/bin/ ./cmd/sluice ./web ./mongo-agent ./gateway \
 && mkdir -p /image/etc/sluice /volumes \
 && cp -r datacenters intentions /image/etc/sluice/ \
 && rm -f /image/etc/sluice/*/*.go \
 && /image/bin/sluice compose mounts /volumes

FROM scratch
COPY --from=build /image/ /
# A new volume takes its owner from the folder at which it is mounted.
COPY --from=build --chown=65532:65532 /volumes/ /
USER 65532:65532
ENTRYPOINT ["/bin/sluice"]
