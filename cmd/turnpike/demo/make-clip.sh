#!/bin/sh
# Makes clip.h264 and clip.alaw, what the demo device shows: 12 seconds of a moving
# picture with a running clock, and a 440 Hz tone that sounds for the first half of
# each second. Both loop cleanly: the video is six closed GOPs, the tone ends where
# it begins. Needs ffmpeg with libx264 and drawtext, and the DejaVu fonts.
set -eu
cd "$(dirname "$0")"
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf}
seconds=12

# Constrained baseline without B-frames is what every WebRTC player decodes. One
# thread makes the result the same everywhere; the encoder's advertisement (SEI) is
# dropped.
ffmpeg -v error -y -f lavfi -i "testsrc2=size=640x360:rate=25:duration=$seconds" \
	-vf "drawtext=fontfile=$font:text='%{pts\:hms}':fontsize=44:fontcolor=white:box=1:boxcolor=black@0.7:boxborderw=10:x=(w-tw)/2:y=h-th-30,drawtext=fontfile=$font:text='Turnpike':fontsize=28:fontcolor=white:box=1:boxcolor=black@0.7:boxborderw=8:x=(w-tw)/2:y=24,format=yuv420p" \
	-c:v libx264 -profile:v baseline -level:v 3.0 -preset veryslow -threads 1 \
	-g 50 -keyint_min 50 -sc_threshold 0 -bf 0 -b:v 480k -maxrate 600k -bufsize 600k \
	-bsf:v filter_units=remove_types=6 -f h264 clip.h264

# Half a second of tone, half a second of silence; 440 Hz fits both a whole number of times.
ffmpeg -v error -y -f lavfi \
	-i "aevalsrc='0.3*sin(2*PI*440*t)*lt(mod(t,1),0.5)':sample_rate=8000:duration=$seconds" \
	-c:a pcm_alaw -f alaw clip.alaw

ls -l clip.h264 clip.alaw
