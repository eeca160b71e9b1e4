"""Following the CA that signs the certificates of the cluster's users. Owns when to look; checks no certificate."""

import asyncio
import logging
import ssl

from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.tls import Certificate

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0


async def follow_client_ca(cluster: Cluster, certificate: Certificate) -> None:
    """Lets clients show certificates of the CA that the cluster names, until cancelled.

    While it can't be read, the CA known before counts; without any, clients show tokens.
    """
    fault = ""
    while True:
        try:
            certificate.trust_clients_of(await cluster.client_ca())
            fault = ""
        except (ClusterUnreachable, ssl.SSLError, ValueError) as error:
            if str(error) != fault:
                logger.warning("the CA of clients' certificates can't be taken, tokens work without: %s", error)
            fault = str(error)
        await asyncio.sleep(LOOK_SECONDS)
