"""Plays a device through WHEP with aiortc, which knows nothing of Turnpike.

usage: whep_aiortc.py URL TOKEN SECONDS
Prints one JSON line: {"status", "video_frames", "width", "height", "audio_samples", "tone_hz"}.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request

import numpy
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError


async def play(url, token, seconds):
    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="recvonly")
    seen = {"status": 0, "video_frames": 0, "width": 0, "height": 0, "audio_samples": 0, "tone_hz": 0}
    sound, tasks = [], []

    async def watch(track):
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    seen["video_frames"] += 1
                    seen["width"], seen["height"] = frame.width, frame.height
                else:
                    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                    seen["audio_samples"] += len(samples)
                    sound.append((frame.sample_rate, samples))
        except MediaStreamError:
            pass

    pc.on("track", lambda track: tasks.append(asyncio.ensure_future(watch(track))))
    await pc.setLocalDescription(await pc.createOffer())
    request = urllib.request.Request(
        url,
        data=pc.localDescription.sdp.encode(),
        headers={"Content-Type": "application/sdp", "Authorization": "Bearer " + token},
    )
    try:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(None, lambda: urllib.request.urlopen(request, timeout=20))
        seen["status"] = answer.status
        sdp = answer.read().decode()
    except urllib.error.HTTPError as refusal:
        seen["status"] = refusal.code
        await pc.close()
        return seen
    await pc.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await pc.close()
    if sound:
        rate = sound[0][0]
        wave = numpy.concatenate([s for _, s in sound]).astype(float)
        spectrum = numpy.abs(numpy.fft.rfft(wave))
        spectrum[0] = 0
        seen["tone_hz"] = round(float(numpy.argmax(spectrum)) * rate / len(wave), 1)
    return seen


print(json.dumps(asyncio.run(play(sys.argv[1], sys.argv[2], float(sys.argv[3])))))
