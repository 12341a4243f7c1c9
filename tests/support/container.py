"""Makes the container `group` in Azurite on its own port, with the emulator's account and key, which are public."""

import base64
import email.utils
import hashlib
import hmac
import urllib.request

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
named = "\n".join(f"{name}:{value}" for name, value in headers.items())
resource = f"/{ACCOUNT}/{ACCOUNT}/group\nrestype:container"
text = "PUT" + "\n" * 12 + f"{named}\n{resource}"
digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
headers["Content-Length"] = "0"
address = f"http://127.0.0.1:10000/{ACCOUNT}/group?restype=container"
urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=headers))
