"""What both halves agree on: pure data and rules, no torch, no grpc, and no import of either half.

errors          what is refused because something given is not as it must be
feature_schema  a profile's features, their one encoding, and the one rule for what is unknown
labels          what phrases and features are called in other languages
prompts         how a typed text is read: what separates phrases, what shows nothing, what is the same
vocabulary      the professional phrases by kind: what a prompt says and what it leaves open
tokens          a prompt as token ids, and its phrases that do not fit
picture_files   what the pixels of a PNG or JPEG need of the file
pictures        from a picture's bytes to the square RGB picture that models read
wishes          which phrases are added for a merchant
history         what a merchant's last picks say of their favours
limits          what a request may ask for, and the samplers by name
tensors         the fixed maxima that widths are padded to
release         a release's manifest and files: written, read, checked
topics          Kafka's topics, who may read and write them, and the envelope of an event
hosts           which hosts are this machine alone
kafka_access    how a process reaches Kafka, and the certificate that it shows
"""
